"""Printing of accuracies under the corruptions of one data set."""

from __future__ import annotations

from collections.abc import Sequence

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.results import without_common_folder


def print_corruptions(names: Sequence[str], reports: Sequence[sm.Report]) -> None:
    """Print a table of accuracies by kind for each data set of which corruptions were judged."""
    found = sm.corruption_errors(names, reports)
    for key in dict.fromkeys((each.data, each.resolution) for each in found):
        some = [each for each in found if (each.data, each.resolution) == key]
        kinds = [
            [kind, *(f"{1 - each.by_kind[kind]:.1%}" for each in some)] for kind in some[0].errors
        ]
        rows = [*kinds, ["mean accuracy", *(f"{each.mean_accuracy:.1%}" for each in some)]]
        if not some[0].missing:
            rows.append(["mCE", *(f"{100 * (each.mce or 0):.1f}" for each in some)])
        at = "" if key[1] is None else f" at {key[1]}"
        networks = without_common_folder([each.network for each in some])
        show.table([f"corruptions of {key[0]}{at}", *networks], rows)
        show.line(_about_mce(some[0]))


def _about_mce(errors: sm.CorruptionErrors) -> str:
    what = "clean accuracy, mean over strengths"
    if errors.missing:
        return f"{what}; no mCE: {errors.missing} of its 75 corruptions were not judged"
    unit = "in percent of AlexNet's" if errors.normalised else "in percent, not normalised"
    return f"{what}; mCE: mean error over the fifteen kinds, {unit}"

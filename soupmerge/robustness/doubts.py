"""Reasons to doubt a robust accuracy: what masks gradients, and what other attacks still find.

After pyautoattack's ``checks.py`` (Croce & Hein 2020, arXiv 2003.01690), Athalye et al. 2018,
"Obfuscated gradients give a false sense of security" (arXiv 1802.00420) and Carlini et al. 2019,
"On evaluating adversarial robustness" (arXiv 1902.06705). ``docs/flags.md`` has a heading for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from soupmerge.errors import UsageError
from soupmerge.robustness import attack_checks as attack
from soupmerge.robustness import behaviour_checks as behaviour
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.check_case import Case, untouched
from soupmerge.robustness.report import Report
from soupmerge.types import Classifier, Progress, quiet


@dataclass(frozen=True)
class Doubt:
    """One reason not to believe a robust accuracy.

    Attributes:
        name: of the check, and of the heading in ``docs/flags.md``.
        what: what was found, with the figures and the threshold.
        fix: what to do.
    """

    name: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}; {self.fix} (docs/flags.md#{self.name})"


def doubts(
    classifier: Classifier,
    benchmark: Benchmark,
    report: Report,
    *,
    n: int = 64,
    checks: Sequence[str] | None = None,
    transfer_from: Sequence[Classifier] = (),
    progress: Progress = quiet,
) -> tuple[Doubt, ...]:
    """Return the reasons to doubt what *report* says of *classifier*; none is no proof.

    They depend on the benchmark's seed alone, and leave the classifier, also its mode and its
    batch statistics, and all global randomness as they were.

    Args:
        classifier: images ``(B, C_in, H, W)`` in [0, 1] to logits ``(B, C)``. It is examined as it
            is, also in training mode.
        benchmark: made the report.
        report: one flag per image and threat.
        n: images that are examined, at most: first those that are right. The cost is about that of
            150 steps of APGD on them for each threat.
        checks: names of the checks to make, of `CHECKS`; None makes all.
        transfer_from: classifiers whose adversarial images are tried too, such as the ingredients
            of a soup.
        progress: is told of each check.

    Raises:
        UsageError: *n* is below 1.
        InputError: the report is not of this benchmark.

    Example:
        >>> import soupmerge as sm
        >>> test = sm.Benchmark(sm.data("digits", limit=8), [sm.APGD(sm.Linf(0.1), steps=5)])
        >>> net = sm.model("digits-cnn").eval()
        >>> [doubt.name for doubt in doubts(net, test, test(net))]  # it was never trained
        ['chance']
    """
    if n < 1:
        raise UsageError(f"{n} is not a number of images ≥ 1", where="n")
    case = Case(classifier, benchmark, report, n, transfer_from)
    due = {name: CHECKS[name] for name in CHECKS if checks is None or name in checks}
    found = []
    for done, (name, check) in enumerate(due.items()):
        progress("doubts", done, len(due), name)
        with untouched(classifier, benchmark.seed):
            found += [Doubt(name, what, check.fix) for what in check.look(case)]
    progress("doubts", len(due), len(due))
    return tuple(dict.fromkeys(found))  # two radii share a ladder's top


class Check(NamedTuple):
    """What a check does: say what it found, in sentences; and what is to be done then."""

    look: Callable[[Case], Iterator[str]]
    fix: str


_BETTER = "its robust accuracy is lower than reported; judge it by AutoAttack"

CHECKS: dict[str, Check] = {
    "training": Check(behaviour.training, "call eval(), or use bind()"),
    "dynamic": Check(behaviour.dynamic, "attack what it optimises, too (Croce et al. 2022)"),
    "randomised": Check(behaviour.randomised, "judge it by AutoAttack's version rand"),
    "probabilities": Check(behaviour.probabilities, "return the logits, without softmax"),
    "not-finite": Check(
        behaviour.not_finite, "find the layer that overflows; these count as wrong"
    ),
    "classes": Check(
        behaviour.classes, "the margin takes the place of such losses; judge by APGD-CE"
    ),
    "chance": Check(behaviour.chance, "check the order of labels, and mean and std"),
    "zero-gradient": Check(
        behaviour.zero_gradient, "judge it by attacks without gradients, such as Square"
    ),
    "scale": Check(attack.scale, "judge it by a loss that no scale changes, such as DLR"),
    "ladder": Check(attack.ladder, "the gradients mislead attacks; judge it by AutoAttack"),
    "steps": Check(attack.steps, "judge it with 100 steps or more, or by AutoAttack"),
    "black-box": Check(attack.black_box, _BETTER),
    "noise": Check(attack.noise, _BETTER),
    "transfer": Check(attack.transfer, _BETTER),
}
"""Name → check, in the order in which they are made."""

CHEAP = (
    "training",
    "dynamic",
    "randomised",
    "probabilities",
    "not-finite",
    "classes",
    "chance",
    "zero-gradient",
    "scale",
)
"""Checks that take no more than some forward passes and two short attacks for each threat."""

"""Errors on corruptions of one data set: by kind, their mean, and the mean corruption error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from soupmerge.choices import IMAGENET_C, STRENGTHS
from soupmerge.corruption_refs import CorruptionRef
from soupmerge.robustness.report import CLEAN, Report

ALEXNET: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's mean error over the strengths of each kind of ImageNet-C (Hendrycks & Dietterich 2019;
with these digits in the code of AugMix, Hendrycks et al. 2020)."""

NORMALISED = ("imagenet-c", "imagenet")
"""Data sets on whose corruptions AlexNet's errors are the unit."""


@dataclass(frozen=True)
class CorruptionErrors:
    """Errors of a network on corruptions of a data set, by clean accuracy on corrupted images.

    Attributes:
        network: its name.
        data: the reference of the set that is corrupted.
        resolution: to which the images were resized, or None.
        errors: kind → strength → error, from 0 to 1.

    Example:
        >>> errors = {kind: dict.fromkeys(STRENGTHS, 0.3) for kind in IMAGENET_C}
        >>> CorruptionErrors("net", "cifar10", None, errors).mce
        0.3
    """

    network: str
    data: str
    resolution: int | None
    errors: Mapping[str, Mapping[int, float]]

    @property
    def by_kind(self) -> dict[str, float]:
        """The mean error over the strengths of each kind."""
        return {kind: mean(errors.values()) for kind, errors in self.errors.items()}

    @property
    def mean_accuracy(self) -> float:
        """One minus the mean over kinds of `by_kind`."""
        return 1 - mean(self.by_kind.values())

    @property
    def missing(self) -> int:
        """How many of the 75 corruptions that the mean corruption error needs were not judged."""
        found = self.errors
        return sum(s not in found.get(kind, ()) for kind in IMAGENET_C for s in STRENGTHS)

    @property
    def normalised(self) -> bool:
        """Whether AlexNet's errors are the unit of the mean corruption error."""
        return self.data.partition(":")[0] in NORMALISED

    @property
    def mce(self) -> float | None:
        """The mean corruption error, or None if corruptions are missing.

        It is the mean over the fifteen kinds c of Σ_s E(s, c) / Σ_s E_AlexNet(s, c), where s are
        the strengths. On sets other than ImageNet's, 1 takes the place of AlexNet's errors.
        """
        if self.missing:
            return None
        return mean(
            self.by_kind[kind] / (ALEXNET[kind] if self.normalised else 1) for kind in IMAGENET_C
        )

    def to_json(self) -> dict[str, Any]:
        """Return the errors as JSON values."""
        at = {} if self.resolution is None else {"resolution": self.resolution}
        return {
            "model": self.network,
            "data": self.data,
            **at,
            "mean_accuracy": self.mean_accuracy,
            "errors": self.by_kind,
            "mce": self.mce,
            "normalised_by": "AlexNet" if self.normalised else None,
        }


def corruption_errors(names: Sequence[str], reports: Sequence[Report]) -> list[CorruptionErrors]:
    """Return the errors of each network on each data set of which several corruptions were judged.

    Args:
        names: the name of the network of each report.
        reports: reports, of which those on corrupted data count.
    """
    found: dict[tuple[str, str, int | None], dict[str, dict[int, float]]] = {}
    for name, report in zip(names, reports, strict=True):
        ref = CorruptionRef.of(str(report.data["ref"]))
        if ref is not None:
            key = name, ref.data, report.data.get("resolution")
            errors = found.setdefault(key, {}).setdefault(ref.kind, {})
            errors[ref.strength] = 1 - report.accuracy(CLEAN)
    several = {key: errors for key, errors in found.items() if sum(map(len, errors.values())) > 1}
    return [CorruptionErrors(*key, errors) for key, errors in several.items()]

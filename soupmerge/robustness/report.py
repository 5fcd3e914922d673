"""Reports: one flag for each example and threat, and the numbers that follow from the flags."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from soupmerge.errors import InputError
from soupmerge.label_spaces.outputs import in_words

if TYPE_CHECKING:
    from torch import Tensor

CLEAN, UNION = "clean", "union"
Bits: TypeAlias = npt.NDArray[np.bool_]


class Recorded(Mapping[str, "Tensor"]):
    """Flags from a record, which become tensors on access only, because torch loads slowly."""

    def __init__(self, bits: Mapping[str, Bits]) -> None:
        self.bits = bits

    def __getitem__(self, metric: str) -> Tensor:
        """Return ``(N,)`` bool."""
        import torch

        return torch.from_numpy(self.bits[metric])

    def __contains__(self, metric: object) -> bool:
        return metric in self.bits

    def __iter__(self) -> Iterator[str]:
        return iter(self.bits)

    def __len__(self) -> int:
        return len(self.bits)


@dataclass(frozen=True, eq=False)
class Report:
    """How a classifier fared on a data set.

    Attributes:
        data: fingerprint of the data set.
        flags: metric → ``(N,)`` bool, whether each example is right; the metrics are ``clean`` and
            each threat, or ``clean`` and ``union``.
        attacks: threat → the attack's name and settings.
        cost: number of gradient and of forward evaluations, in images, and seconds.
        notes: what readers must know: rechecks in float32, and the order of threats in a union.

    Example:
        >>> import torch
        >>> flags = {"clean": torch.tensor([True] * 8 + [False] * 2)}
        >>> Report({"ref": "digits"}, flags, {}).accuracy("clean")
        0.8
    """

    data: Mapping[str, Any]
    flags: Mapping[str, Tensor]
    attacks: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Return whether *other* has the same flags, data, attacks and notes; costs may differ."""
        if not isinstance(other, Report):
            return NotImplemented
        ours, theirs = ((r.to_record(), r.data, r.attacks) for r in (self, other))
        return ours == theirs

    __hash__ = None  # type: ignore[assignment]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.bits(CLEAN))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics: clean, each threat, and the union if there are threats."""
        derived = self.attacks and UNION not in self.flags
        return (*self.flags, UNION) if derived else tuple(self.flags)

    def right(self, metric: str) -> Tensor:
        """Return ``(N,)`` bool: whether each example is right for *metric*; for union, for all."""
        import torch

        return torch.from_numpy(self.bits(metric))

    def bits(self, metric: str) -> Bits:
        """Return `right` as an array."""
        if metric == UNION and UNION not in self.flags:
            union: Bits = np.logical_and.reduce([self.bits(each) for each in self.flags])
            return union
        if metric not in self.flags:
            fix = "choose from " + ", ".join(self.metrics)
            raise InputError(f"no metric {metric!r} was judged", fix=fix)
        if isinstance(self.flags, Recorded):
            return self.flags.bits[metric]
        bits: Bits = self.flags[metric].cpu().numpy()
        return bits

    def correct(self, metric: str) -> int:
        """Return the number of examples that are right for *metric*."""
        return int(self.bits(metric).sum())

    def accuracy(self, metric: str) -> float:
        """Return the fraction of examples right for *metric*, an upper bound if it has attacks."""
        return self.correct(metric) / self.n

    def interval(self, metric: str, level: float = 0.95) -> tuple[float, float]:
        """Return Wilson's interval for the accuracy on unseen examples of the same distribution."""
        return wilson(self.correct(metric), self.n, level)

    def to_metrics(self) -> dict[str, dict[str, Any]]:
        """Return each metric's accuracy, counts, interval, outputs and attack, as JSON values."""
        return {metric: self._metric(metric) for metric in self.metrics}

    def _metric(self, metric: str) -> dict[str, Any]:
        low, high = self.interval(metric)
        outputs = in_words(self.data)
        return {
            "accuracy": self.accuracy(metric),
            "correct": self.correct(metric),
            "n": self.n,
            "ci95": [round(low, 4), round(high, 4)],
            **({"outputs": outputs} if outputs else {}),
            **self.attacks.get(metric, {}),
        }

    def to_record(self) -> dict[str, Any]:
        """Return the report without its cost as JSON values, for `from_record`."""
        packed = {metric: _pack(self.bits(metric)) for metric in self.flags}
        notes = {"notes": dict(self.notes)} if self.notes else {}
        return {"metrics": self.to_metrics(), "flags": packed, **notes}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], data: Mapping[str, Any], attacks: Mapping[str, Any]
    ) -> Report:
        """Return the report on *data* under *attacks* from what `to_record` returned."""
        n = record["metrics"][CLEAN]["n"]
        flags = Recorded({m: _unpack(text, n) for m, text in record["flags"].items()})
        return cls(data, flags, attacks, notes=record.get("notes", {}))


def told_apart_by(reports: Sequence[Report]) -> list[str]:
    """Return the keys of the fingerprints that tell *reports* apart: ``ref``, ``resolution``."""
    several = len({report.data["ref"] for report in reports}) > 1
    resized = any("resolution" in report.data for report in reports)
    return ["ref"] * several + ["resolution"] * resized


def wilson(correct: int, n: int, level: float) -> tuple[float, float]:
    """Return the score interval for *correct* of *n* (Wilson 1927, without continuity correction).

    (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n). scipy has it, but takes 0.7 s to load.
    """
    z, p = NormalDist().inv_cdf((1 + level) / 2), correct / n
    middle, scale = p + z * z / (2 * n), 1 + z * z / n
    reach = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    low = (middle - reach) / scale if correct else 0.0
    return low, (middle + reach) / scale if correct < n else 1.0


def _pack(bits: Bits) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def _unpack(text: str, n: int) -> Bits:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=n)
    return bits.astype(bool)

"""Barriers between ingredients: the values that `barrier` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from soupmerge.robustness.report import CLEAN

SHARED, SEPARATE, UNKNOWN = "shared", "separate", "unknown"


@dataclass(frozen=True)
class Barrier:
    """The barrier on the segment between two ingredients, by one metric.

    Attributes:
        pair: the names of the two ingredients.
        metric: ``clean``, or a threat.
        t: ``(points,)``, the position of each point, from 0 at the first ingredient to 1.
        loss, error: ``(points,)``, means over the images; errors are from 0 to 1.
        height: the largest height of the error above the chord, the straight line between its ends.
        at: the position t of that height.
        deviation: the standard deviation of *height* over draws of images.
        low, high: confidence interval of the height, simultaneous for all verdicts of a check.
        loss_height: the largest height of the loss above its chord.
        verdict: ``shared`` if *high* is at most the tolerance, ``separate`` if *low* is above it,
            and ``unknown`` otherwise.
        reason: why more images would not help, if the verdict is ``unknown`` for such a reason.
    """

    pair: tuple[str, str]
    metric: str
    t: tuple[float, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    height: float
    at: float
    deviation: float
    low: float
    high: float
    loss_height: float
    verdict: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the barrier as JSON values."""
        columns = zip(self.t, self.loss, self.error, strict=True)
        points = [{"t": t, "loss": loss, "error": error} for t, loss, error in columns]
        return {
            "pair": list(self.pair),
            "metric": self.metric,
            "height": self.height,
            "at": self.at,
            "deviation": self.deviation,
            "interval": [self.low, self.high],
            "loss_height": self.loss_height,
            "verdict": self.verdict,
            "reason": self.reason,
            "points": points,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Barrier:
        """Return the barrier that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: *value* is incomplete or damaged.
        """
        first, second = value["pair"]
        low, high = value["interval"]
        points = value["points"]
        columns: Any = {key: tuple(p[key] for p in points) for key in ("t", "loss", "error")}
        names = ("metric", "height", "at", "deviation", "loss_height", "verdict", "reason")
        fields = {name: value[name] for name in names}
        return cls(pair=(first, second), low=low, high=high, **columns, **fields)


@dataclass(frozen=True)
class Barriers:
    """The result of `barrier`: the barriers of all pairs of ingredients, by all metrics.

    Attributes:
        barriers: one for each pair and metric, in order of pairs; iteration yields them.

    Example:
        >>> t, loss, error = (0.0, 0.5, 1.0), (0.3, 0.9, 0.3), (0.1, 0.3, 0.1)
        >>> numbers = {"height": 0.2, "at": 0.5, "deviation": 0.01, "low": 0.17, "high": 0.23}
        >>> rest = {"loss_height": 0.6, "verdict": "separate"}
        >>> high = Barrier(("a", "b"), "clean", t, loss, error, **numbers, **rest)
        >>> Barriers((high,)).verdict
        'separate'
    """

    barriers: tuple[Barrier, ...]

    def __iter__(self) -> Iterator[Barrier]:
        return iter(self.barriers)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict and the barriers as JSON values."""
        return {"verdict": self.verdict, "barriers": [b.to_json() for b in self]}

    @property
    def verdict(self) -> str:
        """``separate`` if any barrier is, ``shared`` if all are, else ``unknown``.

        A threat under which the ends have nothing to lose is ignored; the clean error never is.
        """
        if any(barrier.verdict == SEPARATE for barrier in self):
            return SEPARATE
        relevant = [b for b in self if b.metric == CLEAN or not b.reason]
        return SHARED if all(b.verdict == SHARED for b in relevant) else UNKNOWN

    def rows(self) -> Iterator[list[str]]:
        """Yield a table row for each barrier, with errors in percentage points."""
        for b in self:
            interval = f"{100 * b.low:+.1f} to {100 * b.high:+.1f}"
            ends = f"{b.error[0]:.1%}, {b.error[-1]:.1%}"
            yield [
                " – ".join(b.pair),
                b.metric,
                ends,
                f"{100 * b.height:+.1f} at {b.at:.1f}",
                interval,
                f"{b.loss_height:+.3f}",
                b.verdict + (f": {b.reason}" if b.reason else ""),
            ]

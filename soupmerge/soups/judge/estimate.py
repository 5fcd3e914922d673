"""The cost of a search so far, and an estimate of the time it still needs."""

from __future__ import annotations

from dataclasses import dataclass

from soupmerge.robustness.report import Report


@dataclass
class Estimate:
    """The cost of the soups judged so far.

    Attributes:
        soups: number of soups judged in this process, not counting those read from a journal.
        gradients: gradient evaluations; a batch counts once for each image.
        forwards: forward evaluations, counted alike.
        seconds: time spent.
    """

    soups: int = 0
    gradients: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def add(self, report: Report) -> None:
        """Add the cost of *report*."""
        self.soups += 1
        self.gradients += int(report.cost.get("gradient_evaluations", 0))
        self.forwards += int(report.cost.get("forward_evaluations", 0))
        self.seconds += report.cost.get("seconds", 0.0)

    def cost(self) -> dict[str, float]:
        """Return the cost so far, with the keys of `Report.cost`."""
        return {
            "gradient_evaluations": self.gradients,
            "forward_evaluations": self.forwards,
            "seconds": round(self.seconds, 3),
        }

    def note(self, left: int) -> str:
        """Return the cost so far and the time that *left* soups may take; empty before any soup."""
        if not self.soups:
            return ""
        per_soup = self.seconds / self.soups
        spent = f"{_short(self.gradients)} gradient evaluations"
        return f"{spent}, about {duration(left * per_soup)} left" if left else spent


def duration(seconds: float) -> str:
    """Return *seconds* in words, in a suitable unit.

    Example:
        >>> duration(42), duration(600), duration(100_000)
        ('42 s', '10 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _short(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1_000_000:.1f} million"

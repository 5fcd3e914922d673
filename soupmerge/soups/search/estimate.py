"""What long work costs: seen on the first soups, told of the rest."""

from __future__ import annotations

from dataclasses import dataclass

from soupmerge.robustness.report import Report


@dataclass
class Estimate:
    """What soups cost so far.

    Attributes:
        soups: how many were judged here (a journal's cost nothing).
        gradients: gradient evaluations, each of one image.
        forwards: forward evaluations, each of one image.
        seconds: time.
    """

    soups: int = 0
    gradients: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def add(self, report: Report) -> None:
        """Count what *report* cost."""
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
        """Return what was spent, and, from the first soup on, what *left* soups may take."""
        if not self.soups:
            return ""
        per_soup = self.seconds / self.soups
        spent = f"{_short(self.gradients)} gradient evaluations"
        return f"{spent}, about {duration(left * per_soup)} left" if left else spent


def duration(seconds: float) -> str:
    """Return *seconds* as people say them.

    Example:
        >>> duration(42), duration(600), duration(100_000)
        ('42 s', '10 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _short(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1_000_000:.1f} million"

"""A sequential test of whether one soup is better than another on all images.

Images come in random order, without replacement. Let d_i in [−1, 1] be the score of the first soup
on the i-th image minus that of the second, and S_i the sum of the first i differences. If the first
soup were no better on all N images (Σ d ≤ 0), then, given the past, d_i would have a mean of at
most

    μ_i = −S_{i−1} / (N − i + 1)

and a gambler who bets a fraction f of his capital K on more than that could not expect to gain:

    K_i = K_{i−1} · (1 + λ_i (d_i − μ_i)),    λ_i = f / (1 + μ_i),  0 < f < 1.

K is a nonnegative supermartingale, and so is its mean over several f. By Ville's inequality, the
probability that it ever reaches 1/α is at most α, so one may look at any time (Waudby-Smith &
Ramdas 2023, "Estimating means of bounded random variables by betting", arXiv 2010.09686: betting
without replacement, averaged over a grid of bets).
"""

from __future__ import annotations

import numpy as np

from soupmerge.weights.tensors import Array

PARTS = np.geomspace(0.02, 0.95, 12)
"""Fractions f of the capital; their mean capital does nearly as well as the best of them."""

CLOSE = 1e-9
"""Tolerance for the rounding of sums of weighted metrics."""


class BettingTest:
    """Bets, for each of P pairs of soups, that the first is better on all *n* images."""

    def __init__(self, pairs: int, n: int) -> None:
        self.n, self.seen = n, 0
        self.sums = np.zeros(pairs)
        self.logs = np.zeros((pairs, len(PARTS)))
        self.sure = np.zeros(pairs, dtype=bool)

    def see(self, differences: Array) -> None:
        """Take the differences ``(P, images)`` on further images, in order."""
        for d in differences.T:
            mean = -self.sums / (self.n - self.seen)
            self.sure |= mean < -1 - CLOSE  # better even if it lost on every image that is left
            room = np.maximum(1 + mean, 1e-12)
            bets = PARTS / room[:, None] * (d - mean)[:, None]
            self.logs += np.log1p(bets)
            self.sums += d
            self.seen += 1
        if self.seen == self.n:
            self.sure |= self.sums > CLOSE

    def decided(self, alpha: float) -> Array:
        """Return ``(P,)`` bool: pairs whose first is better, each with error rate *alpha*."""
        top = self.logs.max(1)
        mean = top + np.log(np.exp(self.logs - top[:, None]).mean(1))
        better: Array = self.sure | (mean >= -np.log(alpha))
        return better

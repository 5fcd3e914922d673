"""Is one soup better than another on all images? Decided on as few as it takes, at any time.

Images come in random order, without replacement. Let d_i in [−1, 1] be what the first soup scores
on the i-th, minus what the second does, and S the sum of those seen. If the first were no better on
all N images (Σ d ≤ 0), then, whatever was seen, the next would have a mean of at most

    μ_i = −S_{i−1} / (N − i + 1)

and a capital that bets a part f of itself on more than that could not be expected to grow:

    K_i = K_{i−1} · (1 + λ_i (d_i − μ_i)),    λ_i = f / (1 + μ_i),  0 < f < 1.

It is a nonnegative supermartingale, and so is its mean over several f. By Ville's inequality it
ever reaches 1/α with probability α at most, at whatever moment one looks (Waudby-Smith & Ramdas
2023, "Estimating means of bounded random variables by betting", arXiv 2010.09686: betting without
replacement, and bets that are averaged over a grid).
"""

from __future__ import annotations

import numpy as np

from soupmerge.weights.tensors import Array

PARTS = np.geomspace(0.02, 0.95, 12)
"""Of the capital, what is bet; the mean over them does nearly as well as the best of them."""

CLOSE = 1e-9
"""Sums of weighted metrics round."""


class BettingTest:
    """Bets, for each of P pairs, that the first of the pair is better on all *n* images."""

    def __init__(self, pairs: int, n: int) -> None:
        self.n, self.seen = n, 0
        self.sums = np.zeros(pairs)
        self.logs = np.zeros((pairs, len(PARTS)))
        self.sure = np.zeros(pairs, dtype=bool)

    def see(self, differences: Array) -> None:
        """Take the differences ``(P, images)`` of further images, in order."""
        for d in differences.T:
            mean = -self.sums / (self.n - self.seen)
            self.sure |= mean < -1 - CLOSE  # if it lost all that is left, it would still be better
            room = np.maximum(1 + mean, 1e-12)
            bets = PARTS / room[:, None] * (d - mean)[:, None]
            self.logs += np.log1p(bets)
            self.sums += d
            self.seen += 1
        if self.seen == self.n:
            self.sure |= self.sums > CLOSE

    def decided(self, alpha: float) -> Array:
        """Return ``(P,)`` bool: which firsts are better, each wrongly with probability *alpha*."""
        top = self.logs.max(1)
        mean = top + np.log(np.exp(self.logs - top[:, None]).mean(1))
        found: Array = self.sure | (mean >= -np.log(alpha))
        return found

"""A search led by a surrogate: a model of accuracy, fitted to the judged soups, proposes the next.

The accuracy p of the soup of coefficients w, in each metric, is modelled as

    logit p(w) = Σ_i a_i w_i + Σ_{i<j} b_ij w_i w_j,    Σ_i w_i = 1.

On the simplex, these K(K + 1)/2 terms span all quadratic functions (Scheffé 1958, "Experiments with
mixtures"). a_i is the logit of ingredient i, and b_ij / 4 is how far the soup of equal parts of i
and j is above the line between them.

Such models of merged networks are those of MAP (Li et al. 2025, "MAP: Low-compute model merging
with amortized Pareto fronts via quadratic approximation", arXiv 2406.07529), which fits them to
soups drawn at random and reads the front off the models. Here they are fitted again after each
soup, and the next is the one that they predict to add the most hypervolume to the front, as in
SMS-EGO (Ponweiser et al. 2008, "Multiobjective optimization on a limited budget of evaluations
using model-assisted S-metric selection").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from soupmerge.schedule import stream
from soupmerge.soups.judge.evaluator import Evaluator
from soupmerge.soups.judge.hypervolume import hypervolume
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.judge.trials import Trial
from soupmerge.soups.search.simplex import Row
from soupmerge.weights.tensors import Array

DEVIATION = 4.0
"""Standard deviation of a and b before any soup is judged, in logits: the ridge is its inverse
square. It leaves room for a mixture of two ingredients one logit above or below their line."""

CANDIDATES = 2048
"""The number of soups among which the models choose a proposal."""

APART = 0.05
"""The least distance of a proposal from judged soups, in total variation: Σ_k |w_k − v_k| / 2."""


@dataclass(frozen=True)
class Surface:
    """The accuracy of soups in one metric, as the surrogate models it.

    Attributes:
        terms: ``(K(K + 1)/2,)``: a_1, …, a_K, then b_ij in the order of `features`.

    Example:
        >>> corners_and_middle = np.array([[1, 0], [0, 1], [0.5, 0.5]])
        >>> surface = Surface.fit(corners_and_middle, np.array([500, 500, 900]), 1000)
        >>> surface(np.array([[0.5, 0.5]])).round(2).tolist()
        [0.9]
    """

    terms: Array

    @classmethod
    def fit(cls, soups: Array, correct: Array, n: int) -> Surface:
        """Return the surface of the highest binomial likelihood, with a ridge.

        Args:
            soups: ``(M, K)``, the coefficients of the judged soups.
            correct: ``(M,)``, the number of images that each gets right.
            n: the number of images.
        """
        from sklearn.linear_model import LogisticRegression  # takes most of a second to load

        model = LogisticRegression(
            C=DEVIATION**2, fit_intercept=False, solver="newton-cholesky", tol=1e-8
        )
        x, right = features(soups), np.ones(len(soups))
        counts = np.concatenate([correct, n - correct])
        model.fit(np.vstack([x, x]), np.concatenate([right, 1 - right]), sample_weight=counts)
        return cls(model.coef_[0])

    def __call__(self, soups: Array) -> Array:
        """Return the predicted accuracies ``(M,)`` of *soups* ``(M, K)``."""
        from scipy.special import expit

        accuracies: Array = expit(features(soups) @ self.terms)
        return accuracies


def features(soups: Array) -> Array:
    """Return ``(M, K(K + 1)/2)``: the coefficients, and the products of two, of *soups* ``(M, K)``.

    Example:
        >>> features(np.array([[0.5, 0.3, 0.2]])).round(2).tolist()
        [[0.5, 0.3, 0.2, 0.15, 0.1, 0.06]]
    """
    first, second = np.triu_indices(soups.shape[1], 1)
    return np.hstack([soups, soups[:, first] * soups[:, second]])


def by_surrogate(evaluator: Evaluator, n: int, goals: Sequence[Metric], seed: int) -> None:
    """Judge *n* soups: a third of them scattered over the simplex, the others proposed by models.

    Args:
        evaluator: judges the soups; it has judged the ingredients already.
        n: the number of soups.
        goals: one metric to maximise, or several, whose front is to be extended.
        seed: seed for the scattered soups and for the candidates of each proposal.
    """
    k = len(evaluator.ingredients)
    start = -(-n // 3)
    for row in scattered(k, start, seed, "start").tolist():
        evaluator.soup(row)
    for number in range(start, n):
        candidates = scattered(k, CANDIDATES, seed, number)
        evaluator.soup(proposal(evaluator.trials, goals, candidates))


def scattered(k: int, n: int, *keys: object) -> Array:
    """Return ``(n, K)``: uniform points of faces of the simplex, drawn by *keys*.

    The number of ingredients of each soup is uniform from 2 to K, as is the choice of them: among
    many ingredients, hardly a uniform point of the whole simplex is near a face.
    """
    generator = stream("surrogate", *keys)
    draw = torch.empty(n, k, dtype=torch.float64).exponential_(generator=generator)
    ranks = torch.rand(n, k, generator=generator).argsort(1)
    draw[ranks >= torch.randint(2, k + 1, (n, 1), generator=generator)] = 0
    points: Array = (draw / draw.sum(1, keepdim=True)).numpy()
    return points


def proposal(trials: Sequence[Trial], goals: Sequence[Metric], candidates: Array) -> Row:
    """Return which of the *candidates* to judge next, given the *trials* of the judged soups.

    It has the highest prediction for a single goal. For several goals, its predictions add the most
    hypervolume to that of the judged soups. These enter with their predictions, too, because
    a soup that was merely lucky on these images would otherwise hide better ones. Candidates less
    than `APART` from a judged soup are left out, or less than half of that if no others exist, and
    so on.
    """
    from scipy.spatial.distance import cdist

    judged = np.array([trial.recipe.mean_weights for trial in trials])
    distances, apart = cdist(candidates, judged, "cityblock").min(1) / 2, APART
    while not (distances >= apart).any():
        apart /= 2
    candidates = candidates[distances >= apart]
    soups = np.vstack([judged, candidates])
    values = np.stack([predicted(goal, trials, soups) for goal in goals], 1)
    of_judged, of_candidates = np.split(values, [len(judged)])
    is_single = len(goals) == 1
    scores = of_candidates[:, 0] if is_single else gains(of_judged, of_candidates)
    return tuple(candidates[scores.argmax()].tolist())


def predicted(goal: Metric, trials: Sequence[Trial], soups: Array) -> Array:
    """Return ``(M,)``: the values of *goal* that the *trials* predict for *soups* ``(M, K)``."""
    judged = np.array([trial.recipe.mean_weights for trial in trials])
    total = np.zeros(len(soups))
    for name, weight in goal.terms:
        correct = np.array([trial.judged().correct(name) for trial in trials])
        surface = Surface.fit(judged, correct, trials[0].judged().n)
        total += float(weight) * surface(soups)
    return total


def gains(points: Array, candidates: Array) -> Array:
    """Return ``(C,)``: the hypervolume that each of the *candidates* adds to that of the *points*.

    Args:
        points: ``(M, T)``, the values of M soups for T goals; the worst are the reference.
        candidates: ``(C, T)``.

    Example:
        >>> points = np.array([[0, 2], [2, 0]])
        >>> gains(points, np.array([[1, 1], [1, 3], [0, 1]])).tolist()
        [1.0, 3.0, 0.0]
    """
    low = points.min(0)
    before = hypervolume(points, low)
    return np.array([hypervolume(np.vstack([points, c]), low) - before for c in candidates])

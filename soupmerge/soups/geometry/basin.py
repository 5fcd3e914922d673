"""Do ingredients share a loss basin? The barrier on the segments between them (docs/basins.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import bind, load_into, probe, ref_of
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.outcomes import Outcome, outcomes
from soupmerge.robustness.report import CLEAN
from soupmerge.run import Run
from soupmerge.storage import commit
from soupmerge.storage.names import BARRIERS
from soupmerge.storage.reading import read_json
from soupmerge.storage.replay import START_OVER
from soupmerge.weights import classes
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.mixing import mix
from soupmerge.weights.recipe import Recipe

SHARED, SEPARATE, UNKNOWN = "shared", "separate", "unknown"
POINTS = 11
TOLERANCE = 0.05
"""The highest barrier, in error, that two ingredients of one basin may have between them."""

CONFIDENCE = 0.95
"""That no verdict of a whole check is due to which images were drawn."""


@dataclass(frozen=True)
class Barrier:
    """The way from one ingredient to another in a straight line, by one metric.

    Attributes:
        pair: the names of the two.
        metric: ``clean``, or a threat.
        t: ``(points,)``: how far each point is from the first ingredient, from 0 to 1.
        loss, error: ``(points,)``: means over the images.
        height: the highest that the error rises over the chord, its straight line between the ends.
        at: where that is.
        deviation: the standard deviation of *height* over draws of images.
        low, high: where the height is, with confidence for all verdicts of a check at once.
        loss_height: the highest that the loss rises over its chord.
        verdict: ``shared`` if *high* is at most the tolerance, ``separate`` if *low* is above it.
        reason: why it would be ``unknown`` on any number of images, if it is.
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
        """Return the barrier that `to_json` wrote; what it lacks is a KeyError."""
        first, second = value["pair"]
        low, high = value["interval"]
        points = value["points"]
        columns: Any = {key: tuple(p[key] for p in points) for key in ("t", "loss", "error")}
        same = ("metric", "height", "at", "deviation", "loss_height", "verdict", "reason")
        told = {key: value[key] for key in same}
        return cls(pair=(first, second), low=low, high=high, **columns, **told)


@dataclass(frozen=True)
class Barriers:
    """The barriers of all pairs, by all metrics."""

    barriers: tuple[Barrier, ...]

    def __iter__(self) -> Iterator[Barrier]:
        return iter(self.barriers)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict and the barriers as JSON values."""
        return {"verdict": self.verdict, "barriers": [b.to_json() for b in self]}

    @property
    def verdict(self) -> str:
        """``separate`` if any pair is, by any metric; ``shared`` if all are, as far as is seen.

        A threat under which an end has nothing to lose says nothing, and is passed over; the clean
        error must say something.
        """
        if any(barrier.verdict == SEPARATE for barrier in self):
            return SEPARATE
        telling = [b for b in self if b.metric == CLEAN or not b.reason]
        return SHARED if all(b.verdict == SHARED for b in telling) else UNKNOWN

    def rows(self) -> Iterator[list[str]]:
        """Yield a row to draw for each barrier, in points of error."""
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


def barrier(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    points: int = POINTS,
    tolerance: float = TOLERANCE,
    buffers: str = "average",
    run: Run = Run(),
) -> Barriers:
    """Return how high the error rises between each pair of *ingredients*, above the chord.

    height = max_t [ m(θ_t) − (1 − t) m(θ_0) − t m(θ_1) ],  θ_t = (1 − t) θ_0 + t θ_1

    for the error and the loss m, on all data of *benchmark*, clean and under its attacks (Frankle
    et al. 2020, arXiv 1912.05671). The deviation is that of the mean over images of the bracket, in
    which an image is compared with itself; intervals hold for all points, pairs and metrics at
    once (Bonferroni).

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: images, and attacks that take all their steps (``until_fooled=False``).
        points: on each segment, ends included.
        tolerance: the highest barrier within a basin, in error.
        buffers: policy for batch-norm statistics on the way: ``average`` or ``base``.
        run: run folder, which receives ``barriers.json`` when all are measured, and device.

    Raises:
        UsageError: fewer than two ingredients or three points, or the run folder holds another run.
        InputError: the barriers in the run folder are damaged.
    """
    if len(ingredients) < 2 or points < 3 or len(benchmark.data) < 2:
        what = f"{len(ingredients)} ingredients, {points} points and {len(benchmark.data)} images"
        fix = "take two ingredients, three points and two images at least"
        raise UsageError(f"{what} make no segment", where="barrier", fix=fix)
    settings = {"points": points, "tolerance": tolerance, "buffers": buffers}
    manifest = {
        "command": "check",
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "benchmark": benchmark.describe(),
        "settings": settings,
        "device": run.device_type,
    }
    with run.opened(manifest, inputs=ingredients.files) as folder:
        file = folder.file(BARRIERS) if folder else None
        if file and file.exists():
            return _read(file)
        found = _measured(net, ingredients, benchmark, points, tolerance, buffers, run)
        if file:
            commit.write_json(file, found.to_json())
    return found


def _measured(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    points: int,
    tolerance: float,
    buffers: str,
    run: Run,
) -> Barriers:
    bound = bind(net, ingredients.alone(0), device=run.device)
    probe(bound, benchmark.data, torch.device(run.device))
    classes.require_same(ingredients, benchmark.data)
    pairs = list(combinations(range(len(ingredients)), 2))
    total, done = len(ingredients) + (points - 2) * len(pairs), 0

    def judged(weights: list[float]) -> dict[str, Outcome]:
        nonlocal done
        run.progress("networks", done, total)
        done += 1
        base = max(range(len(ingredients)), key=weights.__getitem__)
        recipe = Recipe.of(ingredients, weights, buffers=buffers, base=base)
        load_into(bound, mix(ingredients, recipe))
        return outcomes(bound, benchmark)

    alone = [
        judged([float(i == k) for i in range(len(ingredients))]) for k in range(len(ingredients))
    ]
    verdicts = len(pairs) * (1 + len(benchmark.attacks)) * (points - 2)
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / verdicts)
    ceiling = _chance(benchmark.data.labels)
    found = []
    for i, j in pairs:
        steps = [n / (points - 1) for n in range(points)]
        between = [judged(_between(len(ingredients), i, j, t)) for t in steps[1:-1]]
        way = [alone[i], *between, alone[j]]
        pair = (ingredients.names[i], ingredients.names[j])
        for metric in alone[i]:
            top = ceiling if metric == CLEAN else 1.0
            line = [outcome[metric] for outcome in way]
            found.append(_barrier(pair, metric, steps, line, z, tolerance, top))
    run.progress("networks", total, total)
    return Barriers(tuple(found))


def _between(k: int, i: int, j: int, t: float) -> list[float]:
    weights = [0.0] * k
    weights[i], weights[j] = 1 - t, t
    return weights


def _chance(labels: Tensor) -> float:
    """Return the error of always answering the most frequent class."""
    return 1 - float(labels.bincount().max()) / len(labels)


def _barrier(
    pair: tuple[str, str],
    metric: str,
    steps: list[float],
    line: list[Outcome],
    z: float,
    tolerance: float,
    ceiling: float,
) -> Barrier:
    error = torch.stack([outcome.error for outcome in line])
    loss = torch.stack([outcome.loss for outcome in line])
    t = torch.tensor(steps, dtype=torch.float64).unsqueeze(1)
    above = (error - (1 - t) * error[0] - t * error[-1])[1:-1]  # (points − 2, N)
    means = above.mean(1)
    # At least that of one image in all: that none changed does not mean that none could.
    deviations = (above.std(1) / above.shape[1] ** 0.5).clamp(min=1 / above.shape[1])
    low, high = float((means - z * deviations).max()), float((means + z * deviations).max())
    where = int(means.argmax())
    losses = loss.mean(1)
    chord = (1 - t[:, 0]) * losses[0] + t[:, 0] * losses[-1]
    verdict = SEPARATE if low > tolerance else SHARED if high <= tolerance else UNKNOWN
    reason = ""
    if verdict != SEPARATE and ceiling - float(error[[0, -1]].mean()) <= tolerance:
        verdict, reason = UNKNOWN, "the ends have nothing to lose"
    return Barrier(
        pair,
        metric,
        tuple(steps),
        tuple(losses.tolist()),
        tuple(error.mean(1).tolist()),
        float(means[where]),
        steps[where + 1],
        float(deviations[where]),
        low,
        high,
        float((losses - chord)[1:-1].max()),
        verdict,
        reason,
    )


def _read(file: Path) -> Barriers:
    value = read_json(file)
    try:
        found = Barriers(tuple(map(Barrier.from_json, value["barriers"])))
    except (KeyError, TypeError, ValueError) as error:
        what = f"holds no barriers ({error!r})"
        raise InputError(what, where=file, fix=START_OVER) from error
    if found.to_json() != value:
        what = "holds more than its barriers, or another verdict than theirs"
        raise InputError(what, where=file, fix=START_OVER)
    return found

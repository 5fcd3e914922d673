"""Do ingredients share a loss basin? The barrier on the segments between them (docs/basins.md)."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from statistics import NormalDist

import torch
from torch import Tensor, nn

from soupmerge.asking import probe
from soupmerge.binding import bind, load_into, ref_of
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.outcomes import Outcome, outcomes
from soupmerge.robustness.report import CLEAN
from soupmerge.run import Run
from soupmerge.soups.geometry.barriers import SEPARATE, SHARED, UNKNOWN, Barrier, Barriers
from soupmerge.storage import commit
from soupmerge.storage.names import BARRIERS
from soupmerge.storage.reading import read_json
from soupmerge.storage.replay import START_OVER
from soupmerge.weights import classes
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.mixing import mix
from soupmerge.weights.recipe import Recipe

POINTS = 11
TOLERANCE = 0.05
"""The highest barrier, in error from 0 to 1, between two ingredients of one basin."""

CONFIDENCE = 0.95
"""Probability that no verdict of a check is due to the draw of images."""


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
    """Measure how high the error rises above the chord between each pair of *ingredients*.

    height = max_t [ m(θ_t) − (1 − t) m(θ_0) − t m(θ_1) ],  θ_t = (1 − t) θ_0 + t θ_1

    for the error and the loss m on the images of *benchmark*, clean and under its attacks (Frankle
    et al. 2020, arXiv 1912.05671). The deviation is that of the mean of the bracket over images,
    compared image by image. The intervals hold for all points, pairs and metrics at once
    (Bonferroni).

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: images, and attacks that take all their steps (``until_fooled=False``).
        points: number of points on each segment, ends included.
        tolerance: the highest barrier within a basin, in error from 0 to 1.
        buffers: policy for batch-norm statistics between the ends: ``average`` or ``base``.
        run: run folder, which receives ``barriers.json`` at the end, and device.

    Raises:
        UsageError: fewer than two ingredients, three points or two images, or the run folder holds
            another run.
        InputError: the barriers in the run folder are damaged.

    Example:
        >>> segment = sm.barrier(net, ingredients, sm.Benchmark(val.data), points=3)
        >>> [(barrier.metric, barrier.t) for barrier in segment]
        [('clean', (0.0, 0.5, 1.0))]
    """
    if len(ingredients) < 2 or points < 3 or len(benchmark.data) < 2:
        sizes = f"{len(ingredients)} ingredients, {points} points and {len(benchmark.data)} images"
        what = f"cannot measure a barrier with {sizes}"
        fix = "give at least two ingredients, three points and two images"
        raise UsageError(what, where="barrier", fix=fix)
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
        barriers = _measure(net, ingredients, benchmark, points, tolerance, buffers, run)
        if file:
            commit.write_json(file, barriers.to_json())
    return barriers


def _measure(
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

    def outcomes_of(weights: list[float]) -> dict[str, Outcome]:
        nonlocal done
        run.progress("networks", done, total)
        done += 1
        base = max(range(len(ingredients)), key=weights.__getitem__)
        recipe = Recipe.of(ingredients, weights, buffers=buffers, base=base)
        load_into(bound, mix(ingredients, recipe))
        return outcomes(bound, benchmark)

    k = len(ingredients)
    ends = [outcomes_of([float(i == one) for i in range(k)]) for one in range(k)]
    verdicts = len(pairs) * (1 + len(benchmark.attacks)) * (points - 2)
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / verdicts)
    ceiling = _chance(benchmark.data.labels)
    t = [n / (points - 1) for n in range(points)]
    barriers = []
    for i, j in pairs:
        between = [outcomes_of(_weights_between(k, i, j, position)) for position in t[1:-1]]
        segment = [ends[i], *between, ends[j]]
        pair = (ingredients.names[i], ingredients.names[j])
        for metric in ends[i]:
            highest = ceiling if metric == CLEAN else 1.0
            line = [outcome[metric] for outcome in segment]
            barriers.append(_barrier(pair, metric, t, line, z, tolerance, highest))
    run.progress("networks", total, total)
    return Barriers(tuple(barriers))


def _weights_between(k: int, i: int, j: int, t: float) -> list[float]:
    weights = [0.0] * k
    weights[i], weights[j] = 1 - t, t
    return weights


def _chance(labels: Tensor) -> float:
    """Return the error of always predicting the most frequent class."""
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
    # At least one image's worth: that no image changed does not mean that none could.
    deviations = (above.std(1) / above.shape[1] ** 0.5).clamp(min=1 / above.shape[1])
    low, high = float((means - z * deviations).max()), float((means + z * deviations).max())
    top = int(means.argmax())
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
        float(means[top]),
        steps[top + 1],
        float(deviations[top]),
        low,
        high,
        float((losses - chord)[1:-1].max()),
        verdict,
        reason,
    )


def _read(file: Path) -> Barriers:
    value = read_json(file)
    try:
        barriers = Barriers(tuple(map(Barrier.from_json, value["barriers"])))
    except (KeyError, TypeError, ValueError) as error:
        what = f"holds no barriers ({error!r})"
        raise InputError(what, where=file, fix=START_OVER) from error
    if barriers.to_json() != value:
        what = "has unknown keys, or a verdict that its barriers do not give"
        raise InputError(what, where=file, fix=START_OVER)
    return barriers

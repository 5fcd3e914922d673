"""Loss and accuracy, clean and under attack, on the plane through three checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from soupmerge.binding import bind, load_into, probe, ref_of
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.outcomes import outcomes
from soupmerge.run import Run
from soupmerge.soups.recalibration import Calibration, recalibrate
from soupmerge.storage.journal import Journal
from soupmerge.storage.names import TRIALS
from soupmerge.storage.replay import START_OVER, Replay
from soupmerge.types import State
from soupmerge.weights import classes, mixing
from soupmerge.weights.buffers import Buffers, is_statistic
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.plane import Plane, plane_through
from soupmerge.weights.recipe import Recipe


@dataclass(frozen=True)
class Point:
    """A network of the plane.

    Attributes:
        x, y: where it is, in weight distance.
        weights: its coefficients, one for each checkpoint.
        loss, accuracy: metric → mean over the images; empty at a hole.
        hole: why nothing could be measured here, if so.
    """

    x: float
    y: float
    weights: tuple[float, ...]
    loss: Mapping[str, float]
    accuracy: Mapping[str, float]
    hole: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the point as JSON values."""
        place = {"x": self.x, "y": self.y, "weights": list(self.weights)}
        if self.hole:
            return {**place, "hole": self.hole}
        metrics = {m: {"loss": self.loss[m], "accuracy": self.accuracy[m]} for m in self.loss}
        return {**place, "metrics": metrics}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], x: float, y: float, weights: tuple[float, ...]
    ) -> Point:
        """Return the point at (*x*, *y*) that `to_record` wrote.

        Raises:
            InputError: the record is of another point, or lacks something.
        """
        try:
            there, here = (record["x"], record["y"], *record["weights"]), (x, y, *weights)
            if len(there) != len(here) or not all(map(_near, there, here)):
                raise ValueError(f"it is of ({record['x']}, {record['y']})")
            if "hole" in record:
                return cls(x, y, weights, {}, {}, str(record["hole"]))
            loss, accuracy = (
                {metric: float(told[key]) for metric, told in record["metrics"].items()}
                for key in ("loss", "accuracy")
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"a record is not of this point ({error!r})"
            raise InputError(what, where=TRIALS, fix=START_OVER) from error
        return cls(x, y, weights, loss, accuracy)


def _near(a: float, b: float) -> bool:
    """Return whether *a* and *b* differ by no more than two machines' ways to round."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


@dataclass(frozen=True)
class Landscape:
    """What was measured: the three checkpoints first, then the lattice, row by row from below."""

    names: tuple[str, ...]
    plane: Plane
    points: tuple[Point, ...]

    @property
    def holes(self) -> tuple[Point, ...]:
        """Points where nothing could be measured."""
        return tuple(point for point in self.points if point.hole)

    def summary(self) -> dict[str, Any]:
        """Return what was found, as JSON values."""
        places = dict(zip(self.names, map(list, self.plane.places), strict=True))
        return {"checkpoints": places, "points": [point.to_record() for point in self.points]}


def landscape(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    points: int = 15,
    margin: float = 0.2,
    buffers: Buffers = Buffers(),
    calibration: Calibration | None = None,
    run: Run = Run(),
) -> Landscape:
    """Measure loss and accuracy on the plane through three ingredients (Garipov et al. 2018).

    The ingredients are measured at their exact places, and a lattice over the smallest rectangle
    around them, made larger to each side. Every point is an affine combination of the three.
    Robust loss is the mean cross-entropy on the adversarial images found, every image attacked.

    Args:
        net: the network of the ingredients.
        ingredients: three ingredients, not on a line.
        benchmark: images, and attacks that take all their steps (``until_fooled=False``).
        points: of the lattice, to each side.
        margin: what the rectangle is made larger by to each side, in parts of its own.
        buffers: where the buffers of every point come from: ``average``, as in every soup (outside
            the triangle, where a variance could be negative, by the positive coefficients alone,
            divided by their sum), or ``base``.
        calibration: re-estimate the statistics of every point, ingredients included, on these
            images instead.
        run: run folder, which journals one line for each point, and device.

    Returns:
        The three ingredients, then points² others. What gives NaN is a hole, and no error.

    Raises:
        UsageError: not three ingredients, fewer than two points, a negative margin, or the run
            folder holds another run.
        InputError: two ingredients are the same, or all lie on a line.
        NumericsError: an ingredient holds NaN or Inf.
    """
    if points < 2 or not 0 <= margin < 100:
        what = f"{points} points with a margin of {margin} make no picture"
        fix = "take 2 points or more, and a margin from 0 on"
        raise UsageError(what, where="points and margin", fix=fix)
    ingredients.require_sound()
    plane = plane_through(ingredients)
    bound = bind(net, ingredients.alone(0), device=run.device)
    probe(bound, benchmark.data, torch.device(run.device))
    classes.require_same(ingredients, benchmark.data)
    anew = {"calibration": calibration.describe()} if calibration else {}
    policy = "recalibrate" if calibration else buffers.policy
    statistics = {"buffers": policy, "base": buffers.base, **anew}
    manifest = {
        "command": "landscape",
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "benchmark": benchmark.describe(),
        "settings": {"points": points, "margin": margin, **statistics},
        "device": run.device_type,
    }
    with run.opened(manifest, inputs=ingredients.files, images=benchmark.data) as folder:
        surveyor = _Surveyor(net, bound, ingredients, benchmark, buffers, calibration, run)
        places = [*plane.places, *_lattice(plane, points, margin)]
        found = surveyor.points(plane, places, folder.journal(TRIALS) if folder else None)
    return Landscape(ingredients.names, plane, tuple(found))


def _lattice(plane: Plane, points: int, margin: float) -> Iterator[tuple[float, float]]:
    """Yield *points*² places over the rectangle around the checkpoints, made larger by *margin*."""
    columns, rows = (_spread(axis, points, margin) for axis in zip(*plane.places, strict=True))
    for y in rows:
        for x in columns:
            yield x, y


def _spread(values: tuple[float, ...], points: int, margin: float) -> list[float]:
    low, high = min(values), max(values)
    start, length = low - margin * (high - low), (1 + 2 * margin) * (high - low)
    return [start + length * i / (points - 1) for i in range(points)]


@dataclass(frozen=True)
class _Surveyor:
    """Measures points of a plane."""

    net: nn.Module
    bound: nn.Module
    ingredients: Ingredients
    benchmark: Benchmark
    buffers: Buffers
    calibration: Calibration | None
    run: Run

    def points(
        self,
        plane: Plane,
        places: Sequence[tuple[float, float]],
        journal: Journal | None,
    ) -> Iterator[Point]:
        """Yield the points at *places*; what *journal* holds is not measured again."""
        replay = Replay(journal)
        replay.require_at_most(len(places), "points")
        for i, (x, y) in enumerate(places):
            if not replay.is_known:
                self.run.progress("points", i, len(places))
            weights = plane.coefficients(x, y)
            yield replay.piece(
                partial(self._measured, x, y, weights),
                read=partial(Point.from_record, x=x, y=y, weights=weights),
                write=Point.to_record,
            )
        self.run.progress("points", len(places), len(places))

    def _measured(self, x: float, y: float, weights: tuple[float, ...]) -> Point:
        try:
            load_into(self.bound, self._state(weights))
        except NumericsError as error:  # weights beyond their dtype
            return Point(x, y, weights, {}, {}, error.what)
        found = outcomes(self.bound, self.benchmark)
        for metric, outcome in found.items():
            if lost := int((~torch.isfinite(outcome.loss)).sum()):
                hole = f"{metric}: no finite loss on {lost} of {len(outcome.loss)} images"
                return Point(x, y, weights, {}, {}, hole)
        loss = {metric: float(outcome.loss.mean()) for metric, outcome in found.items()}
        accuracy = {metric: 1 - float(outcome.error.mean()) for metric, outcome in found.items()}
        return Point(x, y, weights, loss, accuracy)

    def _state(self, weights: tuple[float, ...]) -> State:
        if self.calibration is not None:
            state = self._mixed(weights, "base")
            return recalibrate(self.net, state, self.calibration, device=self.run.device)
        if self.buffers.policy == "base" or min(weights) >= 0:
            return self._mixed(weights, self.buffers.policy)
        # Extrapolated, a variance would be negative: where it is near 0, close to the triangle.
        total = sum(w for w in weights if w > 0)
        nearby = self._mixed(tuple(max(w, 0.0) / total for w in weights), "average")
        statistics = {name: tensor for name, tensor in nearby.items() if is_statistic(name)}
        return {**self._mixed(weights, "base"), **statistics}

    def _mixed(self, weights: tuple[float, ...], policy: str) -> State:
        recipe = Recipe.of(
            self.ingredients, weights, affine=True, buffers=policy, base=self.buffers.base
        )
        return mixing.mix(self.ingredients, recipe)

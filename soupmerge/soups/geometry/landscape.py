"""Loss and accuracy, clean and under attack, on the plane through three checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from soupmerge.asking import probe
from soupmerge.binding import bind, load_into, ref_of
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
    """A network in the plane.

    Attributes:
        x, y: its position, in Euclidean distance between weights.
        weights: its coefficients, one for each of the three checkpoints.
        loss, accuracy: metric → mean over the images; empty if nothing could be measured.
        hole: why nothing could be measured, if so.
    """

    x: float
    y: float
    weights: tuple[float, ...]
    loss: Mapping[str, float]
    accuracy: Mapping[str, float]
    hole: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the point as JSON values."""
        position = {"x": self.x, "y": self.y, "weights": list(self.weights)}
        if self.hole:
            return {**position, "hole": self.hole}
        metrics = {m: {"loss": self.loss[m], "accuracy": self.accuracy[m]} for m in self.loss}
        return {**position, "metrics": metrics}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], x: float, y: float, weights: tuple[float, ...]
    ) -> Point:
        """Return the point at (*x*, *y*) that `to_record` wrote.

        Raises:
            InputError: the record is of another point, or incomplete.
        """
        try:
            recorded, due = (record["x"], record["y"], *record["weights"]), (x, y, *weights)
            if len(recorded) != len(due) or not all(map(_near, recorded, due)):
                raise ValueError(f"it is of ({record['x']}, {record['y']})")
            if "hole" in record:
                return cls(x, y, weights, {}, {}, str(record["hole"]))
            loss, accuracy = (
                {metric: float(means[key]) for metric, means in record["metrics"].items()}
                for key in ("loss", "accuracy")
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"a record is not of this point ({error!r})"
            raise InputError(what, where=TRIALS, fix=START_OVER) from error
        return cls(x, y, weights, loss, accuracy)


def _near(a: float, b: float) -> bool:
    """Return whether *a* and *b* are equal up to the rounding of different machines."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


@dataclass(frozen=True)
class Landscape:
    """The result of `landscape`.

    Attributes:
        names: the names of the three checkpoints.
        plane: the plane through them, with their positions.
        points: the three checkpoints, then the lattice, row by row from the lowest y.
    """

    names: tuple[str, ...]
    plane: Plane
    points: tuple[Point, ...]

    @property
    def holes(self) -> tuple[Point, ...]:
        """Points where nothing could be measured."""
        return tuple(point for point in self.points if point.hole)

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values."""
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

    The points are the ingredients themselves and a lattice over their bounding box, extended on
    every side. Every point is an affine combination of the three. The robust loss is the mean
    cross-entropy on the adversarial images found; every image is attacked.

    Args:
        net: the network of the ingredients.
        ingredients: three ingredients that do not lie on a line.
        benchmark: images, and attacks that take all their steps (``until_fooled=False``).
        points: number of lattice points along each side.
        margin: extension of the box on every side, as a fraction of its own side.
        buffers: where the buffers of every point come from: ``average``, as in every soup (outside
            the triangle, where a variance could be negative, with the positive coefficients alone,
            divided by their sum), or ``base``.
        calibration: re-estimate the statistics of every point, ingredients included, on these
            images instead.
        run: run folder, which journals one line for each point, and device.

    Returns:
        The three ingredients and points² others. A point that gives NaN is a hole, not an error.

    Raises:
        UsageError: not three ingredients, fewer than two points, a negative margin, or the run
            folder holds another run.
        InputError: two ingredients are the same, or all three lie on a line.
        NumericsError: an ingredient holds NaN or Inf.

    Example:
        >>> sm.save(out / "third.safetensors", net.state_dict())
        >>> three = sm.load(*ingredients.files, out / "third.safetensors")
        >>> plane = sm.landscape(net, three, sm.Benchmark(val.data), points=2, margin=0)
        >>> len(plane.points)
        7
    """
    if points < 2 or not 0 <= margin < 100:
        what = f"cannot measure {points} points with a margin of {margin}"
        fix = "give at least 2 points, and a margin of 0 or more"
        raise UsageError(what, where="points and margin", fix=fix)
    ingredients.require_sound()
    plane = plane_through(ingredients)
    bound = bind(net, ingredients.alone(0), device=run.device)
    probe(bound, benchmark.data, torch.device(run.device))
    classes.require_same(ingredients, benchmark.data)
    statistics: dict[str, Any] = {"buffers": buffers.policy, "base": buffers.base}
    if calibration:
        statistics |= {"buffers": "recalibrate", "calibration": calibration.describe()}
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
        measured = surveyor.points(plane, places, folder.journal(TRIALS) if folder else None)
    return Landscape(ingredients.names, plane, tuple(measured))


def _lattice(plane: Plane, points: int, margin: float) -> Iterator[tuple[float, float]]:
    """Yield *points*² positions over the bounding box of the checkpoints, extended by *margin*."""
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
    """Measures the points of a plane."""

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
        """Yield the points at *places*, reading from *journal* those that it holds."""
        replay = Replay(journal)
        replay.require_at_most(len(places), "points")
        for i, (x, y) in enumerate(places):
            if not replay.is_known:
                self.run.progress("points", i, len(places))
            weights = plane.coefficients(x, y)
            yield replay.piece(
                partial(self._measure, x, y, weights),
                read=partial(Point.from_record, x=x, y=y, weights=weights),
                write=Point.to_record,
            )
        self.run.progress("points", len(places), len(places))

    def _measure(self, x: float, y: float, weights: tuple[float, ...]) -> Point:
        try:
            load_into(self.bound, self._state(weights))
        except NumericsError as error:  # weights overflow their dtype
            return Point(x, y, weights, {}, {}, error.what)
        by_metric = outcomes(self.bound, self.benchmark)
        for metric, outcome in by_metric.items():
            if count := int((~torch.isfinite(outcome.loss)).sum()):
                hole = f"{metric}: no finite loss on {count} of {len(outcome.loss)} images"
                return Point(x, y, weights, {}, {}, hole)
        loss = {metric: float(outcome.loss.mean()) for metric, outcome in by_metric.items()}
        accuracy = {m: 1 - float(outcome.error.mean()) for m, outcome in by_metric.items()}
        return Point(x, y, weights, loss, accuracy)

    def _state(self, weights: tuple[float, ...]) -> State:
        if self.calibration is not None:
            state = self._mix(weights, "base")
            return recalibrate(self.net, state, self.calibration, device=self.run.device)
        if self.buffers.policy == "base" or min(weights) >= 0:
            return self._mix(weights, self.buffers.policy)
        # An extrapolated variance can be negative, even close to the triangle if it is near 0.
        total = sum(w for w in weights if w > 0)
        inside = self._mix(tuple(max(w, 0.0) / total for w in weights), "average")
        statistics = {name: tensor for name, tensor in inside.items() if is_statistic(name)}
        return {**self._mix(weights, "base"), **statistics}

    def _mix(self, weights: tuple[float, ...], policy: str) -> State:
        recipe = Recipe.of(
            self.ingredients, weights, affine=True, buffers=policy, base=self.buffers.base
        )
        return mixing.mix(self.ingredients, recipe)

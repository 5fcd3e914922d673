"""A front against the grid: hypervolume on images that chose nothing, cost, and optimisers.

    python benchmarks/front.py [--quick] [--json] [--family NAME=A,B,C …] [--data DATA …] [-o DIR]

For each family of ingredients and each seed: a grid (step 0.2) is judged on images that choose, and
its Pareto front is kept; a front of clean accuracy and Linf is learned on training images. Eleven
points of the front, the kept soups, the ingredients, the uniform soup and one learned soup for each
objective are then judged by APGD with cross-entropy on other images, and their hypervolumes above
the worst ingredient are compared by a paired bootstrap. As a set of more soups has a higher
hypervolume by chance alone, the larger set is also thinned to the size of the other: the grid's
soups evenly in clean accuracy on the images that chose, the front's points evenly in λ.

--optimisers compares optimisers instead: losses on images that taught nothing, the Frank-Wolfe gap
and the hypervolume after equal steps.

Each family and seed is kept in DIR, so that parts may run as separate processes (--only
NAME:SEED); a run without --only collects them. Without --family, digits networks are trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from front_bench import Bench, Stopwatch, bench_of, point, trained
from front_variants import VARIANTS, optimised, print_optimisers

import soupmerge as sm
from soupmerge.soups.learn.learner import Learner


def compared(bench: Bench) -> dict[str, Any]:
    """Return the result of one family and seed: both hypervolumes, the points, and the costs."""
    judge = bench.benchmark(bench.test, "test", bench.steps)
    grid, cost = judged_grid(bench)
    front = grid.front(*bench.metrics)
    beside = {f"grid {i}": grid[i].recipe for i in front}
    kept = list(beside)
    chosen = {name: grid[i].judged().accuracy("clean") for name, i in zip(kept, front, strict=True)}
    seconds: dict[str, float] = {}
    for goal in bench.goals() if bench.seed == 0 else ():
        watch = Stopwatch()
        alone = sm.learn(
            *(bench.net, bench.ingredients, bench.train, goal),
            settings=bench.settings,
            run=sm.Run(device=bench.device, progress=watch),
        )
        beside[f"learned {goal.name}"] = alone.recipe
        seconds[f"learned {goal.name}"] = watch.ended["steps"]
    watch = Stopwatch()
    run = sm.Run(device=bench.device, progress=watch)
    learned = bench.learned(judge, run, beside=beside)
    return {
        "points": [point(trial, bench.metrics) for trial in learned.points],
        "at": [list((t.recipe.front or {})["at"].values()) for t in learned.points],
        "beside": {n: point(t, bench.metrics) for n, t in learned.beside.items()},
        "hypervolume": learned.hypervolume(kept, bench.metrics).to_json(),
        "as many": as_many(learned, chosen, bench.metrics),
        "uniform": learned.hypervolume(["uniform"], bench.metrics).to_json(),
        "seconds": {"front": watch.ended["steps"], **seconds},
        "share of at": at_share(bench, learned.front),
        "gradients": {
            "front": gradients(bench),
            "grid": cost,
            "judged": len(grid) * gradients_of(learned.points) / len(learned.points),
        },
        "device": bench.device,
    }


def as_many(
    learned: sm.LearnedFront, grid: Mapping[str, float], metrics: Sequence[str]
) -> dict[str, Any]:
    """Return the comparison of equally many points of the front and soups of the grid.

    Args:
        grid: the soups of the grid, and their clean accuracy on the images that chose.
    """
    numbers = {n: float(n) for n in range(len(learned.points))}  # points are evenly spaced in λ
    size = max(2, min(len(numbers), len(grid)))
    some = tuple(learned.points[n] for n in spread_evenly(numbers, size))
    few = dataclasses.replace(learned, points=sm.Trials(some))
    return {"soups": size, **few.hypervolume(spread_evenly(grid, size), metrics).to_json()}


def spread_evenly(places: Mapping[Any, float], count: int) -> list[Any]:
    """Return *count* things that lie evenly on a line, from one end of it to the other.

    Again and again, the one whose neighbours are closest together is left out.

    Args:
        places: thing → its place on the line.
        count: 2 or more.
    """
    kept = sorted(places, key=lambda thing: places[thing])
    while len(kept) > count:
        around = zip(kept, kept[2:], strict=False)
        gaps = [places[after] - places[before] for before, after in around]
        del kept[1 + gaps.index(min(gaps))]
    return kept


def at_share(bench: Bench, front: sm.Front) -> float:
    """Return the time of the coefficients at a preference, as a share of that of mixing them."""
    began = time.perf_counter()
    for share in np.linspace(0, 1, 20):
        recipe = front.at(float(share))
    found = time.perf_counter()
    for _ in range(20):
        sm.mix(bench.ingredients, recipe)
    return (found - began) / (time.perf_counter() - found)


def judged_grid(bench: Bench) -> tuple[sm.Trials, int]:
    """Return the grid on the images that choose, and its gradient evaluations.

    It does not depend on the seed, so the parts of one family share it.
    """
    chooser = bench.benchmark(bench.choose, "val", bench.steps).giving_up()
    run = sm.Run(bench.grid, device=bench.device)
    trials = sm.grid(bench.net, bench.ingredients, chooser, run=run)
    file = bench.grid.with_suffix(".json")
    if not file.exists():
        file.write_text(json.dumps(gradients_of(trials)))
    return trials, json.loads(file.read_text())


def gradients_of(trials: sm.Trials) -> int:
    return int(sum(trial.judged().cost["gradient_evaluations"] for trial in trials))


def gradients(bench: Bench) -> int:
    """Return the gradient evaluations that learn a front, counted on the first 50 steps."""
    counted = Counter()
    learner = Learner(
        *(bench.net, bench.ingredients, bench.train),
        {goal.name: counted.around(goal) for goal in bench.goals()},
        bench.settings,
        seed=bench.seed,
        device=bench.device,
    )
    counted.images = 0
    batches = torch.arange(len(bench.train)).split(bench.settings.batch_size)[:50]
    for indices in batches:
        learner.step(indices)
    return int(counted.images / len(batches) * learner.steps * learner.epochs)


class Counter:
    """Counts the images of differentiated passes: those of attacks, and those of the losses."""

    def __init__(self) -> None:
        self.images = 0

    def around(self, goal: sm.Adversarial) -> Any:
        counter = self

        class Counted:
            name, describe = goal.name, goal.describe

            def craft(self, classifier: Any, x: Any, y: Any, *, generator: Any) -> Any:
                def call(x: Any) -> Any:
                    counter.images += len(x) if x.requires_grad else 0
                    return classifier(x)

                return goal.craft(call, x, y, generator=generator)

            def loss(self, classifier: Any, x: Any, x_adv: Any, y: Any) -> Any:
                counter.images += len(x)
                return goal.loss(classifier, x, x_adv, y)

        return Counted()


def ahead(points: Sequence[Sequence[float]], grid: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return how far the front is ahead of the grid's ends, in points of accuracy.

    At the grid's best robust accuracy, in clean accuracy, and the other way round; the front is
    interpolated between its judged points. Where it ends before, the result is what it lacks of the
    grid's best accuracy, which is negative.
    """
    clean, robust = np.array(sorted(map(tuple, points))).T
    x, y = np.array(grid).T
    top, fair, order = y.argmax(), x.argmax(), np.argsort(robust)
    leads = {"clean": robust.max() - y[top], "robust": clean.max() - x[fair]}
    if leads["clean"] >= 0:
        leads["clean"] = np.interp(y[top], robust[order], clean[order]) - x[top]
    if leads["robust"] >= 0:
        leads["robust"] = np.interp(x[fair], clean, robust) - y[fair]
    return {metric: 100 * float(lead) for metric, lead in leads.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", action="append", default=[], metavar="NAME=A,B,C")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--train", default="train", help="split that teaches")
    parser.add_argument("--choose", default="val", help="split that chooses soups of the grid")
    parser.add_argument("--limits", type=int, nargs=3, metavar=("TRAIN", "CHOOSE", "TEST"))
    parser.add_argument("--threat", type=sm.Threat.parse, help="threat that judges")
    parser.add_argument("--taught", type=sm.Threat.parse, help="threat of learning, if another")
    parser.add_argument("--steps", type=int, default=100, help="steps of the judging attack")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", metavar="NAME:SEED[:VARIANT]", help="run this part only")
    parser.add_argument("--optimisers", action="store_true", help="compare optimisers and forms")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="compare only these")
    parser.add_argument("-o", "--out", metavar="DIR", help="keeps each part")
    given = common.options(parser)
    torch.set_num_threads(1)
    home = Path(given.out or tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    families = dict(each.split("=", 1) for each in given.family) or trained(home)
    seeds = range(1 if given.quick else given.seeds)
    variants = [*(given.variant or VARIANTS)] if given.optimisers else [""]
    parts = [":".join(filter(None, p)) for p in product(families, map(str, seeds), variants)]
    found = {}
    for part in [given.only] if given.only else parts:
        file = home / f"{part.replace(':', '-')}.json"
        if not file.exists():
            name, seed, *variant = part.split(":")
            bench = bench_of(given, families[name].split(","), int(seed), home / f"grid-{name}")
            value = optimised(bench, *variant) if variant else compared(bench)
            file.write_text(json.dumps(value))
        found[part] = json.loads(file.read_text())
    if given.optimisers:
        print_optimisers(found)
    else:
        common.answer(ratios(found), as_json=given.json)


def ratios(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the measured figures with their goals."""
    rows: dict[str, dict[str, Any]] = {}
    for part, result in found.items():
        volume, gap = result["hypervolume"], result["hypervolume"]["gap"]
        print(f"{part}: front {_points(result['points'])}")
        print(f"{part}: grid  {_points(_grid(result))}")
        print(f"{part}: hypervolume {volume['ours']:.4f}, grid {volume['theirs']:.4f}, {gap}")
        rows[f"{part}: hypervolume over the grid's, lower end"] = common.ratio(
            1000 * gap["low"], ">= 0"
        )
        fair = result["as many"]
        print(f"{part}: with {fair['soups']} soups each {fair['ours']:.4f}, {fair['theirs']:.4f}")
        rows[f"{part}: the same, with equally many soups each"] = common.ratio(
            1000 * fair["gap"]["low"], ">= 0"
        )
        for metric, lead in ahead(result["points"], _grid(result)).items():
            what = f"{part}: {metric} accuracy over the grid's other end, points"
            rows[what] = common.ratio(lead, ">= 3")
        seconds, gradients = result["seconds"], result["gradients"]
        if alone := [value for name, value in seconds.items() if name != "front"]:
            rows[f"{part}: time of the front / the slower learned soup"] = common.ratio(
                seconds["front"] / max(alone), "<= 2"
            )
        rows[f"{part}: gradients of the front / of judging as many soups as the grid has"] = (
            common.ratio(gradients["front"] / gradients["judged"], "<= 0.333")
        )
        rows[f"{part}: the same / of choosing among them, with early stops"] = common.ratio(
            gradients["front"] / gradients["grid"], ">= 0"
        )
        rows[f"{part}: time of at(λ) / of mixing the soup"] = common.ratio(
            result["share of at"], "<= 0.1"
        )
    return rows


def _grid(result: dict[str, Any]) -> list[list[float]]:
    return [point for name, point in result["beside"].items() if name.startswith("grid")]


def _points(points: Sequence[Sequence[float]]) -> str:
    return " ".join("/".join(f"{100 * x:.1f}" for x in point) for point in points)


if __name__ == "__main__":
    main()

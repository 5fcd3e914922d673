"""A front against the grid: hypervolume on images that chose nothing, cost, and optimisers.

    python benchmarks/front.py [--quick] [--json] [--family NAME=A,B,C …] [--data DATA …] [-o DIR]

For each family of ingredients and each seed: a grid (step 0.2) is judged on images that choose, and
its Pareto front is kept; a front of clean accuracy and Linf is learned on training images. Eleven
points of the front, the kept soups, the ingredients, the uniform soup and one learned soup for each
objective are then judged by APGD with cross-entropy on other images, and their hypervolumes above
the worst ingredient are compared by a paired bootstrap. --optimisers compares optimisers instead:
losses on images that taught nothing, the Frank-Wolfe gap and the hypervolume after equal steps.

Each family and seed is kept in DIR, so that parts may run as separate processes (--only
NAME:SEED); a run without --only collects them. Without --family, digits networks are trained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

import soupmerge as sm
from soupmerge.soups.learn.learner import Learner

VARIANTS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam-uniform": {"init": "uniform"},
    "adam-xavier": {"init": "xavier"},
    "eg": {"optimiser": "eg"},
    "sgd": {"optimiser": "sgd"},
    "paper": {"optimiser": "sgd", "dropout": 0.8, "init": "xavier"},
    "curved": {"family": "softmax-curved"},
    "affine": {"family": "affine", "lr": 0.01},
    "tchebycheff": {"scalarisation": "tchebycheff"},
    "vector": {"by": "model"},
    "block": {"by": "block"},
    "base-statistics": {"buffers": "base"},
}
"""Name → settings that differ from the default: another start, optimiser, form or grouping."""


@dataclass(frozen=True)
class Bench:
    """Ingredients, images, threat and length, from which both sides work."""

    files: tuple[str, ...]
    train: sm.Images
    choose: sm.Images
    test: sm.Images
    threat: sm.Threat
    taught: sm.Threat
    steps: int
    settings: sm.Settings
    device: str
    seed: int
    grid: Path

    @cached_property
    def ingredients(self) -> sm.Ingredients:
        return sm.load(*self.files)

    @cached_property
    def net(self) -> Any:
        return sm.model(like=self.ingredients)

    @property
    def metrics(self) -> tuple[str, str]:
        return "clean", str(self.threat)

    def goals(self) -> list[sm.Adversarial]:
        return [sm.clean(), sm.against(self.taught)]

    def benchmark(self, images: sm.Images, name: str, steps: int) -> sm.Benchmark:
        batch = 1024 if self.device == "cuda" else 256
        attack = sm.APGD(self.threat, steps=steps)
        return sm.Benchmark(images, [attack], name=name, batch_size=batch)

    def learned(self, benchmark: sm.Benchmark, run: sm.Run, **options: Any) -> sm.LearnedFront:
        return sm.front(
            *(self.net, self.ingredients, self.train, self.goals()),
            benchmark=benchmark,
            seed=self.seed,
            run=run,
            **{"settings": self.settings, **options},
        )


class Stopwatch:
    """A progress callback that notes when a stage of the work ends."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.ended: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        if done == total:
            self.ended.setdefault(what, time.perf_counter() - self.began)


def compared(bench: Bench) -> dict[str, Any]:
    """Return the result of one family and seed: both hypervolumes, the points, and the costs."""
    judge = bench.benchmark(bench.test, "test", bench.steps)
    grid, cost = judged_grid(bench)
    beside = {f"grid {i}": grid[i].recipe for i in grid.front(*bench.metrics)}
    kept = list(beside)
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


def point(trial: sm.Trial, metrics: Sequence[str]) -> list[float]:
    return [trial.judged().accuracy(metric) for metric in metrics]


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


def optimised(bench: Bench, variant: str) -> dict[str, Any]:
    """Return what *variant* reaches: losses at the ends and the middle, gaps, hypervolume."""
    judge = bench.benchmark(bench.test, "test", bench.steps)
    settings = replace(bench.settings, **VARIANTS[variant])
    with tempfile.TemporaryDirectory() as home:
        watch = Stopwatch()
        run = sm.Run(home, device=bench.device, progress=watch)
        learned = bench.learned(judge, run, settings=settings, points=5)
        last = json.loads(Path(home, "history.jsonl").read_text().splitlines()[-1])
    return {
        "seconds": watch.ended["steps"],
        "gaps": last.get("gaps", {}),
        "losses": held_out(bench, learned.front),
        "points": [point(trial, bench.metrics) for trial in learned.points],
        "hypervolume": learned.hypervolume(["uniform"], bench.metrics).ours,
    }


def held_out(bench: Bench, front: sm.Front) -> list[float]:
    """Return λ-weighted losses at λ = 0, ½ and 1 on the images that choose."""
    losses = []
    for share in (0.0, 0.5, 1.0):
        soup = sm.bind(bench.net, sm.mix(bench.ingredients, front.at(share)), device=bench.device)
        total = 0.0
        for weight, goal in zip((1 - share, share), bench.goals(), strict=True):
            if weight:
                total += weight * mean_loss(bench, soup, goal)
        losses.append(round(total, 4))
    return losses


def mean_loss(bench: Bench, soup: Any, goal: sm.Adversarial) -> float:
    total = 0.0
    for indices in torch.arange(len(bench.choose)).split(250):
        x, y = (t.to(bench.device) for t in bench.choose.batch(indices))
        generator = torch.Generator().manual_seed(int(indices[0]))
        x_adv = goal.craft(soup, x, y, generator=generator)
        with torch.no_grad():
            total += float(goal.loss(soup, x, x_adv, y)) * len(y)
    return total / len(bench.choose)


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


def bench_of(given: argparse.Namespace, files: Sequence[str], seed: int, grid: Path) -> Bench:
    limits = given.limits or (None, None, None)
    splits = (given.train, given.choose, "test")
    train, choose, test = (
        sm.data(given.data, split=s, limit=n) for s, n in zip(splits, limits, strict=True)
    )
    threat = given.threat or sm.Linf(0.15 if given.data == "digits" else 8 / 255)
    settings = sm.Settings(epochs=given.epochs, batch_size=given.batch_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Bench(
        files=tuple(files),
        train=train,
        choose=choose,
        test=test,
        threat=threat,
        taught=given.taught or threat,
        steps=given.steps,
        settings=settings,
        device=device,
        seed=seed,
        grid=grid,
    )


def trained(home: Path) -> dict[str, str]:
    """Train three networks of digits from one base, and return them as a family."""
    train = sm.data("digits", split="train")
    paths = {n: home / f"{n}.safetensors" for n in ("base", "linf", "l2", "clean")}
    plan = sm.Schedule(epochs=20, lr=0.1, augment="none")
    goals = {"linf": sm.against(sm.Linf(0.15)), "l2": sm.against(sm.L2(1.0)), "clean": sm.clean()}
    if not paths["base"].exists():
        net = sm.model("digits-cnn", seed=0)
        sm.finetune(net, train, sm.against(sm.Linf(0.1)), paths["base"], schedule=plan)
        base = sm.load(paths["base"])[0]
        for name, goal in goals.items():
            schedule = replace(plan, lr=0.05, epochs=15)
            sm.finetune(net, train, goal, paths[name], base=base, schedule=schedule)
    return {"digits": ",".join(str(paths[name]) for name in goals)}


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


def print_optimisers(found: dict[str, Any]) -> None:
    """Print the mean over families and seeds of what each variant reached."""
    print("| variant | losses at 0, ½, 1 | gaps | hypervolume | seconds |\n|---|---|---|---|---|")
    for name in VARIANTS:
        each = [result for part, result in found.items() if part.split(":")[2] == name]
        if not each:
            continue
        losses = np.mean([r["losses"] for r in each], axis=0)
        gaps = np.mean([[g or np.nan for g in r["gaps"].values()] for r in each], axis=0)
        volume = 1000 * np.mean([r["hypervolume"] for r in each])
        seconds = np.mean([r["seconds"] for r in each])
        cells = [" ".join(f"{x:.3f}" for x in losses), " ".join(f"{x:.2f}" for x in gaps) or "–"]
        print(f"| {name} | {' | '.join(cells)} | {volume:.1f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()

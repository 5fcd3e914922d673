"""A grid of 21 soups of three ingredients, against judging each soup alone with pyautoattack 0.2.

`grid.py --ingredients A B C --data folder:DATA` uses your ingredients; without them, a small
network is trained on scikit-learn's digits and fine-tuned in three ways. The naive way mixes each
soup from the files, binds it, and runs pyautoattack's APGD-CE with 100 steps under Linf and L2 on
the images that are right without attack. `--flags RUN` repeats the race, without any attack, on
resampled images of the run folder of an exhaustive grid; without it, on those of this run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import common
import numpy as np
import torch
from watching import Case, Watched, some, tell, timed, unbound

import soupmerge as sm
from soupmerge.robustness.meter import Meter
from soupmerge.soups.judge.evaluator import evaluating
from soupmerge.soups.judge.metrics import Metric, paired
from soupmerge.soups.search.betting import BettingTest
from soupmerge.soups.search.choice import tried
from soupmerge.soups.search.race import ALPHA, MOST_ROUNDS

STEPS, BATCH, REPEATS = 100, 256, 20
REAL, DIGITS = ("linf:8/255", "l2:0.5"), ("linf:0.15", "l2:0.75")
Row = dict[str, Any]


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        refs = given.ingredients or trained(Path(folder))
        threats = [sm.Threat.parse(t) for t in (REAL if given.ingredients else DIGITS)]
        split = given.split if given.ingredients else "val"
        data = some(sm.data(given.data, split=split), given.limit)
        attacks = [sm.APGD(threat, steps=STEPS) for threat in threats]
        judge = sm.Benchmark(data, attacks, name="val", batch_size=BATCH)
        ingredients = sm.load(*refs)
        rows = measured(sm.model(like=ingredients), ingredients, judge, given)
    common.answer(rows, as_json=given.json)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ingredients", nargs=3, metavar="FILE", help="three checkpoints of one network"
    )
    parser.add_argument("--data", default="digits", help="data set, as for soupmerge")
    parser.add_argument("--split", default="train[45000:]", help="split of --data")
    parser.add_argument("--limit", type=int, default=64, help="number of images")
    parser.add_argument(
        "--flags", metavar="RUN", help="run folder of an exhaustive grid on more images"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = common.options(parser)
    given.limit = min(given.limit, 32) if given.quick else given.limit
    return given


def trained(home: Path) -> list[Path]:
    """Return three fine-tunes of a network trained on digits."""
    train, base = sm.data("digits", split="train"), home / "base.safetensors"
    long = sm.Schedule(epochs=8, lr=0.1, augment="none")
    net, objective = sm.model("digits-cnn?width=8"), sm.against(sm.Linf(0.1))
    sm.finetune(net, train, objective, base, schedule=long)
    paths = []
    for name, threat in (("linf", sm.Linf(0.15)), ("l2", sm.L2(1.0)), ("clean", None)):
        ingredient, short = sm.load(base)[0], sm.Schedule(epochs=4, lr=0.05, augment="none")
        paths.append(home / f"{name}.safetensors")
        net = sm.model(like=ingredient)
        sm.finetune(net, train, sm.against(threat), paths[-1], base=ingredient, schedule=short)
    return paths


def measured(
    net: Any, ingredients: sm.Ingredients, judge: sm.Benchmark, given: Any
) -> dict[str, Row]:
    """Return all ratios."""
    grids: dict[str, tuple[sm.Trials, float, int]] = {}
    ways = {
        "grid --thorough": judge,
        "grid": judge.giving_up(),
        "grid --transfer": replace(judge.giving_up(), transfer=True),
    }
    for name, judging in ways.items():
        with counting() as spent:
            trials, ours, _ = timed(partial(sm.grid, net, ingredients, judging))
        grids[name] = (trials, ours, sum(spent))
        tell(f"{name}: {ours:.0f} s, {sum(spent):,} gradients")
    with counting() as spent:
        quick = judge.giving_up()
        raced, race_time, _ = timed(lambda: sm.race(net, ingredients, quick, goal="best"))
    race_cost = sum(spent)
    tell(f"race: {race_time:.0f} s, {race_cost:,} gradients")
    naive, gradients, seconds = judged_alone(net, ingredients, judge, grids["grid"][0])
    union = judge.metrics[-1]
    rows: dict[str, Row] = {}
    seen = {"images": len(judge.data), "naive seconds": round(seconds)}
    for name, (trials, ours, cost) in grids.items():
        pairs = [(t.judged(), n) for t, n in zip(trials, naive, strict=True)]
        gaps = [a.accuracy(m) - b.accuracy(m) for a, b in pairs for m in a.metrics]
        apart = set(trials.front("clean", union)) ^ set(naive_front(naive, union))
        rows |= {
            f"gradients, naive / {name}": common.ratio(gradients / cost, ">= 3") | seen,
            f"time, naive / {name}": common.ratio(seconds / ours, ">= 3"),
            f"{name}: largest excess over the naive accuracy": common.ratio(max(gaps), "<= 0.005"),
            f"{name}: mean distance from the naive accuracy": common.ratio(
                float(np.mean(np.abs(gaps))), "<= 0.005"
            ),
            f"{name}: soups on one front and not the other": common.ratio(len(apart), "<= 0"),
        }
    choice, exhaustive = raced.trials.best(union), max(naive, key=lambda r: r.correct(union))
    behind = exhaustive.accuracy(union) - choice.judged().accuracy(union)
    trials = grids["grid"][0]
    flags = tried([given.flags]).trials if given.flags else trials
    return rows | {
        "gradients, naive / race for the best": common.ratio(gradients / race_cost, ">= 8"),
        "race's choice, behind the naive one": common.ratio(behind, "<= 0.005"),
        **repeated(flags, given),
        "switching soups / judging 256 images": switching(net, ingredients, judge, trials),
    }


class counting:  # noqa: N801 - a context manager
    """Counts the gradients of every benchmark that runs inside, one number per call."""

    def __enter__(self) -> list[int]:
        spent: list[int] = []
        call = Meter.__call__

        def counted(meter: Meter, x: torch.Tensor) -> torch.Tensor:
            spent.append(len(x) if torch.is_grad_enabled() and x.requires_grad else 0)
            return call(meter, x)

        self.patch = mock.patch.object(Meter, "__call__", counted)
        self.patch.start()
        return spent

    def __exit__(self, *error: object) -> None:
        self.patch.stop()


def judged_alone(
    net: Any, ingredients: sm.Ingredients, judge: sm.Benchmark, trials: sm.Trials
) -> tuple[list[sm.Report], int, float]:
    """Return a report on each soup by pyautoattack, the number of gradients, and the seconds."""
    reports, gradients, began = [], 0, time.perf_counter()
    for trial in trials:
        bound = sm.bind(net, sm.mix(ingredients, trial.recipe))
        watched = Watched(unbound(bound))
        threats: Any = tuple(attack.threat for attack in judge.attacks)
        data: Any = judge.data
        case = Case(watched, bound, data, threats, STEPS, BATCH, judge.seed, 1)
        clean, flags = case.right(), {}
        for threat in threats:
            robust = torch.zeros(len(judge.data), dtype=torch.bool)
            robust[clean] = case.theirs(watched, threat, clean)
            flags[str(threat)] = robust
        right = torch.zeros(len(judge.data), dtype=torch.bool)
        right[clean] = True
        attacks = {str(a.threat): a.describe() for a in judge.attacks}
        reports.append(sm.Report(judge.data.fingerprint(), {"clean": right, **flags}, attacks))
        gradients += watched.gradients
        tell(f"naive: {len(reports)} of {len(trials)}, {time.perf_counter() - began:.0f} s")
    return reports, gradients, time.perf_counter() - began


def naive_front(reports: list[sm.Report], union: str) -> tuple[int, ...]:
    """Return the indices of the reports that no other dominates."""
    points = [(r.correct("clean"), r.correct(union)) for r in reports]
    beaten = [any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points) for p in points]
    return tuple(i for i, lost in enumerate(beaten) if not lost)


def repeated(trials: sm.Trials, given: Any) -> dict[str, Row]:
    """Race on resampled images, with the flags of an exhaustive run."""
    union = trials.metrics[-1]
    flags = np.array([t.judged().right(union).numpy() for t in trials], dtype=float)
    draw, tied, asked = np.random.default_rng(0), 0, []
    for _ in range(REPEATS):
        sample = flags[:, draw.integers(0, flags.shape[1], flags.shape[1])]
        alive, share = raced(sample, draw.permutation(sample.shape[1]))
        asked.append(share)
        pick, best = max(alive, key=lambda i: sample[i].sum()), int(sample.sum(1).argmax())
        first, second = report_of(sample[best]), report_of(sample[pick])
        tied += paired(first, second, Metric.parse("clean")).low <= 0
    seen = {"images": flags.shape[1], "share of verdicts needed": round(float(np.mean(asked)), 3)}
    goal = common.ratio(tied, f">= {REPEATS - 1}")
    return {f"of {REPEATS} races, choice tied with the exhaustive one": goal | seen}


def report_of(right: np.ndarray[Any, Any]) -> sm.Report:
    return sm.Report({}, {"clean": torch.from_numpy(right > 0)}, {})


def raced(flags: np.ndarray[Any, Any], shuffled: np.ndarray[Any, Any]) -> tuple[list[int], float]:
    """Return the soups that are left, and the share of all verdicts that the race needed."""
    soups = len(flags)
    first, second = np.array([(a, b) for a in range(soups) for b in range(soups) if a != b]).T
    capitals, beaten, asked = BettingTest(len(first), flags.shape[1]), set[int](), 0
    for part in np.array_split(shuffled, MOST_ROUNDS):
        asked += (soups - len(beaten)) * len(part)
        capitals.see(flags[first][:, part] - flags[second][:, part])
        sure = capitals.decided(ALPHA / len(first))
        for a, b, decided in zip(first.tolist(), second.tolist(), sure.tolist(), strict=True):
            if decided and a not in beaten:
                beaten.add(b)
    return [i for i in range(soups) if i not in beaten], asked / flags.size


def switching(net: Any, ingredients: sm.Ingredients, judge: sm.Benchmark, trials: sm.Trials) -> Row:
    """Return the time of changing the weights over that of judging 256 images."""
    with evaluating(
        net, ingredients, judge, "grid", {}, buffers=sm.Buffers(), run=sm.Run()
    ) as evaluator:
        recipes = [trial.recipe for trial in list(trials)[:10]]
        changes = [timed(partial(evaluator.network, recipe))[1] for recipe in recipes]
        data: Any = judge.data
        some_images = data.take(torch.arange(min(32, len(judge.data))), "some")
        bound = evaluator.network(recipes[0])
        small = sm.Benchmark(some_images, judge.giving_up().attacks, batch_size=32)
        whole = timed(lambda: small(bound))[1] * 256 / len(some_images)
    return common.ratio(float(np.median(changes)) / whole, "<= 0.03")


if __name__ == "__main__":
    main()

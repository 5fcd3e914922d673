"""Clean and robust accuracy of a soup under each policy for batch-norm statistics.

Without ingredients, two are trained from one base on scikit-learn's digits, in seconds. With files:
`buffers.py linf.safetensors l1.safetensors --data folder:PATH --split 'train[:45000]'`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import torch

import soupmerge as sm

AVERAGE = "average"
POLICIES = (AVERAGE, "base", "recalibrate, clean", "recalibrate, attacked")
CRAFTING_STEPS = 10
"""Steps of the attack on images for recalibration, as in `soupmerge mix`."""


@dataclass(frozen=True)
class Kitchen:
    """What soups are made and judged with: ingredients, recalibration images, a benchmark."""

    ingredients: sm.Ingredients
    train: sm.Images
    judge: sm.Benchmark
    threat: sm.Threat
    seed: int

    def judged(self, weights: list[float]) -> dict[str, sm.Report]:
        """Return the report on the soup of *weights* for each policy."""
        net = sm.model(like=self.ingredients)
        return {policy: self.judge(sm.bind(net, self.soup(weights, policy))) for policy in POLICIES}

    def soup(self, weights: list[float], policy: str) -> dict[str, Any]:
        word, _, kind = policy.partition(", ")
        state = sm.mix(self.ingredients, sm.Recipe.of(self.ingredients, weights, buffers=word))
        if not kind:
            return state
        attack = sm.APGD.training(self.threat, steps=CRAFTING_STEPS)
        images = sm.Calibration(self.train, attack if kind == "attacked" else None, seed=self.seed)
        return sm.recalibrate(sm.model(like=self.ingredients), state, images)


def main() -> None:
    given = options()
    torch.set_num_threads(1)  # the number of threads changes how convolutions round
    train = sm.data(given.data, split=given.split, limit=given.limit)
    test = sm.data(given.data, split="test", limit=given.test_limit)
    judge = sm.Benchmark(test, [sm.APGD(given.threat, steps=given.steps)], seed=given.seed)
    with tempfile.TemporaryDirectory() as folder:
        ingredients = sm.load(*(given.ingredients or trained(Path(folder), given.seed)))
        found = list(rows(Kitchen(ingredients, train, judge, given.threat, given.seed)))
    if given.json:
        print(json.dumps({"judge": judge.describe(), "rows": found}, indent=1))
        return
    print(f"statistics from {len(train)} images, judged on {len(test)}; APGD, {given.steps} steps")
    heads = ("coefficients", "statistics", "clean", "- average", str(given.threat), "- average")
    table = [heads, *(cells(row, str(given.threat)) for row in found)]
    print("\n".join("| " + " | ".join(line) + " |" for line in table))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "ingredients", nargs="*", metavar="FILE", help="ingredients; `base` is the first"
    )
    parser.add_argument("--data", default="digits", help="data set, as for soupmerge")
    parser.add_argument("--split", default="train", help="split of the images for statistics")
    parser.add_argument("--limit", type=int, help="number of these images")
    parser.add_argument("--test-limit", type=int, help="number of test images that judge")
    parser.add_argument("--threat", type=sm.Threat.parse, help="threat of both attacks")
    parser.add_argument("--steps", type=int, default=20, help="steps of the APGD that judges")
    parser.add_argument("--seed", type=int, default=0)
    given = common.options(parser)
    given.threat = given.threat or (sm.Linf(8 / 255) if given.ingredients else sm.Linf(0.1))
    if given.quick:
        given.limit, given.test_limit = given.limit or 512, given.test_limit or 200
    return given


def trained(home: Path, seed: int) -> list[Path]:
    """Train a base on digits, and from it one ingredient against Linf 0.15 and one clean."""
    train, net = sm.data("digits", split="train"), sm.model("digits-cnn", seed=seed)
    base, linf, clean = (home / f"{name}.safetensors" for name in ("base", "linf", "clean"))
    long = sm.Schedule(epochs=20, lr=0.1, augment="none")
    sm.finetune(net, train, sm.against(sm.Linf(0.1)), base, schedule=long, seed=seed)
    short = sm.Schedule(epochs=15, lr=0.05, augment="none")
    for out, objective in ((linf, sm.against(sm.Linf(0.15))), (clean, sm.against(None))):
        start = sm.load(base)[0]
        sm.finetune(net, train, objective, out, base=start, schedule=short, seed=seed)
    return [linf, clean]


def rows(kitchen: Kitchen) -> Iterator[dict[str, Any]]:
    """Yield a row for each policy, for the uniform soup and for each ingredient alone."""
    k = len(kitchen.ingredients)
    for weights in ([1 / k] * k, *([float(i == j) for i in range(k)] for j in range(k))):
        reports = kitchen.judged(weights)
        for policy, report in reports.items():
            metrics = {m: measure(report, reports[AVERAGE], m) for m in report.flags}
            yield {"weights": weights, "statistics": policy, "n": report.n, "metrics": metrics}


def measure(report: sm.Report, average: sm.Report, metric: str) -> dict[str, Any]:
    """Return the accuracy, and its difference from that of *average*, image by image."""
    apart = report.right(metric).double() - average.right(metric).double()
    # Never less than one changed image: that none changed does not mean that none could.
    deviation = max(float(apart.std()) / report.n**0.5, 1 / report.n)
    mean, half = float(apart.mean()), 1.96 * deviation
    return {
        "accuracy": report.accuracy(metric),
        "ci95": report.interval(metric),
        "gain": mean,
        "gain ci95": (mean - half, mean + half),
    }


def cells(row: dict[str, Any], threat: str) -> list[str]:
    line = [", ".join(f"{w:.3g}" for w in row["weights"]), row["statistics"]]
    for metric in ("clean", threat):
        found = row["metrics"][metric]
        low, high = (100 * end for end in found["ci95"])
        line.append(f"{100 * found['accuracy']:.1f} ({low:.1f}–{high:.1f})")
        low, high = (100 * end for end in found["gain ci95"])
        same = row["statistics"] == AVERAGE
        line.append("" if same else f"{100 * found['gain']:+.1f} ({low:+.1f} to {high:+.1f})")
    return line


if __name__ == "__main__":
    main()

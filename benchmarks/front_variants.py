"""Variants of learning a front, and what each of them reaches in equally many steps."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from front_bench import Bench, Stopwatch, point

import soupmerge as sm
from soupmerge.choices import OPTIMISERS, Optimiser

# Twice the rate of sgd: a mean moves half as far as what it is the mean of.
OPTIMISERS["averaged"] = Optimiser("averaging:PrimalAveraging", lr=2 * OPTIMISERS["sgd"].lr)

VARIANTS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam-uniform": {"init": "uniform"},
    "adam-xavier": {"init": "xavier"},
    "eg": {"optimiser": "eg"},
    "sgd": {"optimiser": "sgd"},
    "averaged": {"optimiser": "averaged"},
    "paper": {"optimiser": "sgd", "dropout": 0.8, "init": "xavier"},
    "curved": {"family": "softmax-curved"},
    "affine": {"family": "affine", "lr": 0.01},
    "tchebycheff": {"scalarisation": "tchebycheff"},
    "vector": {"by": "model"},
    "block": {"by": "block"},
    "base-statistics": {"buffers": "base"},
    "two-preferences": {"preferences": 2},
}
"""Name → settings that differ from the default: another start, optimiser, form or grouping."""


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

"""Four searches for a front, at an equal number of judged soups: surrogate, CMA-ES, random, grid.

`search.py --ingredients A B C … --data folder:DATA` uses your ingredients; without them, a small
network is trained on scikit-learn's digits and fine-tuned in four ways. Every search judges as many
soups as the grid, on the same choosing images. The soups on its front of clean and robust accuracy
are then judged on other images, and searches are compared by hypervolume: the area that these soups
dominate above the worst ingredient in each metric. Searches that draw are repeated with other
seeds, and averaged. The intervals are of the ratio over resampled judging images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from watching import some, tell

import soupmerge as sm
from soupmerge.soups.judge.hypervolume import hypervolume
from soupmerge.soups.lattice import lattice_size
from soupmerge.soups.search.grid import parts_of

BATCH, RESAMPLED = 256, 1000
DRAWN = ("surrogate", "cma", "random")
Array = np.ndarray[Any, Any]


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        ingredients = sm.load(*(given.ingredients or trained(Path(folder))))
        rows = measured(Kitchen(ingredients, given), given)
    common.answer(rows, as_json=given.json)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ingredients", nargs="+", metavar="FILE", help="three or more files")
    parser.add_argument("--data", default="digits", help="data set, as for soupmerge")
    parser.add_argument("--split", help="split of the images that choose")
    parser.add_argument("--limit", type=int, default=256, help="number of images that choose")
    parser.add_argument("--judging", type=int, default=500, help="number of test images that judge")
    parser.add_argument("--threat", type=sm.Threat.parse, help="threat of the attack")
    parser.add_argument("--steps", type=int, default=10, help="steps of the attack")
    parser.add_argument("--step", default="1/3", help="spacing of the grid")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of searches that draw")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = common.options(parser)
    real = bool(given.ingredients)
    given.threat = given.threat or sm.Threat.parse("linf:8/255" if real else "linf:0.15")
    given.split = given.split or ("train[45000:]" if real else "val")
    given.seeds = 1 if given.quick else given.seeds
    return given


def trained(home: Path) -> list[Path]:
    """Return four fine-tunes of a network trained on digits."""
    train, base = sm.data("digits", split="train"), home / "base.safetensors"
    long = sm.Schedule(epochs=8, lr=0.1, augment="none")
    sm.finetune(
        sm.model("digits-cnn?width=8"), train, sm.against(sm.Linf(0.1)), base, schedule=long
    )
    start, paths = sm.load(base)[0], list[Path]()
    for threat in (sm.Linf(0.15), sm.L2(1.0), sm.L1(5.0), None):
        paths.append(home / f"{len(paths)}.safetensors")
        short = sm.Schedule(epochs=4, lr=0.05, augment="none")
        net = sm.model(like=start)
        sm.finetune(net, train, sm.against(threat), paths[-1], base=start, schedule=short)
    return paths


class Kitchen:
    """Searches soups of *ingredients*, and judges those on fronts; each soup is judged once."""

    def __init__(self, ingredients: sm.Ingredients, given: argparse.Namespace) -> None:
        self.ingredients, self.net = ingredients, sm.model(like=ingredients)
        attacks = [sm.APGD(given.threat, steps=given.steps)]
        choosing = some(sm.data(given.data, split=given.split), given.limit)
        judging = some(sm.data(given.data, split="test"), given.judging)
        self.choosing = sm.Benchmark(choosing, attacks, name="val", batch_size=BATCH)
        self.judging = sm.Benchmark(judging, attacks, name="test", batch_size=BATCH)
        self.known: dict[Any, Array] = {}

    def found(self, name: str, step: str, seed: int) -> tuple[Array, int]:
        """Return flags ``(soups, 2, images)`` of the front of a search, and its gradients."""
        k = len(self.ingredients)
        if name == "grid":
            trials = sm.grid(self.net, self.ingredients, self.choosing, step=step)
        else:
            n = lattice_size(k, parts_of(step)) - k - 1
            trials = sm.search(
                self.net, self.ingredients, self.choosing, method=name, n=n, seed=seed
            )
        gradients = sum(int(trial.judged().cost["gradient_evaluations"]) for trial in trials)
        front = [trials[i].recipe for i in trials.front("clean", "union")]
        tell(f"{name}, seed {seed}: {len(trials)} soups, {gradients:,} gradients")
        return np.stack([self.judged(recipe) for recipe in front]), gradients

    def judged(self, recipe: sm.Recipe) -> Array:
        """Return ``(2, images)``: whether the soup is right, clean and under attack."""
        if recipe.weights not in self.known:
            report = self.judging(sm.bind(self.net, sm.mix(self.ingredients, recipe)))
            flags = np.stack([report.bits("clean"), report.bits("union")])
            self.known[recipe.weights] = flags
        return self.known[recipe.weights]

    def alone(self) -> Array:
        """Return ``(K, 2, images)``: the flags of the ingredients."""
        corners = np.eye(len(self.ingredients)).tolist()
        return np.stack([self.judged(sm.Recipe.of(self.ingredients, row)) for row in corners])


def measured(kitchen: Kitchen, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the ratios of the surrogate's hypervolume to those of the others."""
    alone, n = kitchen.alone(), len(kitchen.judging.data)
    draws = np.random.default_rng(0).multinomial(n, [1 / n] * n, RESAMPLED)
    shares = np.vstack([np.ones(n), draws]) / n  # the images themselves, then resampled
    volumes, spent = {}, {}
    for name in ("grid", *DRAWN):
        seeds = range(1 if name == "grid" else given.seeds)
        runs = [kitchen.found(name, given.step, seed) for seed in seeds]
        areas = [above(np.concatenate([flags, alone]), alone, shares) for flags, _ in runs]
        volumes[name], spent[name] = np.mean(areas, 0), [gradients for _, gradients in runs]
        by_seed = ", ".join(f"{1e4 * area[0]:.0f}" for area in areas)
        tell(f"{name}: hypervolumes in squared points {by_seed}")
    rows = {}
    for other in (*DRAWN[1:], "grid"):
        with np.errstate(invalid="ignore"):  # 0 / 0, if no soup beats the worst ingredients
            ratios = volumes["surrogate"] / volumes[other]
        low, high = np.nanquantile(ratios[1:], [0.025, 0.975]).round(3).tolist()
        row = common.ratio(float(ratios[0]), ">= 1") | {"ci95": [low, high]}
        row |= {"gradients": {"surrogate": spent["surrogate"], other: spent[other]}}
        rows[f"hypervolume, surrogate / {other}"] = row
    return rows


def above(flags: Array, alone: Array, shares: Array) -> Array:
    """Return ``(resamples,)``: the hypervolume of the soups above the worst ingredients.

    Args:
        flags: ``(soups, 2, images)``, clean and robust.
        alone: the same of the ingredients.
        shares: ``(resamples, images)``, the weight of each image.
    """
    points, corners = flags @ shares.T, alone @ shares.T
    worst = corners.min(0)
    pairs = zip(points.transpose(2, 0, 1), worst.T, strict=True)
    return np.array([hypervolume(soups, low) for soups, low in pairs])


if __name__ == "__main__":
    main()

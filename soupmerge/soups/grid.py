"""Every soup of the simplex lattice, judged."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.binding import bind, pour, ref_of
from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.soups.comparing import images_table
from soupmerge.soups.trials import Trial, Trials
from soupmerge.storage import commit, run
from soupmerge.types import Progress, quiet
from soupmerge.weights import mixing
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

MOST_SOUPS = 100_000
"""More than anyone can judge; a larger lattice is a mistyped step."""


def parts_of(step: float | str) -> int:
    """Return how many steps make 1.

    Raises:
        UsageError: *step* does not divide 1.

    Example:
        >>> parts_of(0.2), parts_of("1/3")
        (5, 3)
    """
    size = exact(str(step), "step")
    if not 0 < size <= 1 or (1 / size).denominator != 1:
        fix = "take 0.5, 0.25, 0.2, 0.1 or 0.05, say"
        raise UsageError(f"{step} does not divide 1", where="step", fix=fix)
    return int(1 / size)


def lattice_size(k: int, parts: int) -> int:
    """Return the number of soups, C(parts + K − 1, K − 1): 6, 21, 56, … at step 0.2."""
    return math.comb(parts + k - 1, k - 1)


def lattice(k: int, parts: int) -> Iterator[tuple[float, ...]]:
    """Yield all (w_1, …, w_K) with w_k in {0, 1/parts, …, 1} and Σ w_k = 1.

    Example:
        >>> list(lattice(2, 2))
        [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    """
    return (tuple(n / parts for n in numbers) for numbers in _compositions(k, parts))


def _compositions(k: int, total: int) -> Iterator[tuple[int, ...]]:
    if k == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(k - 1, total - first):
            yield (first, *rest)


def grid(
    net: nn.Module,
    pots: Ingredients,
    benchmark: Benchmark,
    *,
    step: float | str = 0.2,
    choose: str | None = None,
    buffers: str = "average",
    base: int = 0,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> Trials:
    """Judge every soup whose coefficients are multiples of *step* (Huang 2023, section 4.1).

    Args:
        net: the network of the ingredients.
        pots: K ≥ 2 ingredients.
        benchmark: judges; its data choose the soup, so they must not judge it.
        step: 0.2 gives 6, 21, 56, 126 … soups for K = 2, 3, 4, 5 ….
        choose: metric whose best soup is written; default ``union``, or ``clean`` without threats.
            The best recipe of every metric is written too, to ``best/METRIC.json``.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters (and ``base`` statistics) come from.
        device: where to judge.
        out: run folder; journals one line a soup, resumes, and receives the chosen soup.
        force: start over if *out* holds another run.
        progress: is told of soups.

    Returns:
        All soups in lattice order, every ingredient among them.

    Raises:
        UsageError: K < 2, *step* does not divide 1, or *out* holds a run with other settings.
    """
    size, recipes = plan(pots, step, buffers=buffers, base=base)
    choose = choose or benchmark.metrics[-1]
    if choose not in benchmark.metrics:
        fix = near_miss(choose, benchmark.metrics)
        raise UsageError(f"no metric {choose!r} is judged", where="best", fix=fix)
    manifest = {
        "command": "grid",
        "model": ref_of(net),
        "inputs": pots.fingerprint(),
        "benchmark": benchmark.describe(),
        "settings": {"step": str(exact(str(step), "step")), "buffers": buffers, "base": base},
        "device": torch.device(device).type,
    }
    with contextlib.ExitStack() as stack:
        folder = None
        if out is not None:
            run_folder = run.opened(out, manifest, inputs=pots.files, force=force)
            folder = stack.enter_context(run_folder)
            commit.write_text(folder.file("images.csv"), images_table(benchmark.data), force=True)
        trials = _judge(net, pots, benchmark, recipes, size, folder, device, progress)
        if folder is not None:
            for metric in trials.metrics:
                recipe = trials.best(metric).recipe
                commit.write_json(folder.best(metric), recipe.to_json(), force=True)
            write_choice(folder, pots, trials.best(choose).recipe, ref_of(net))
    return trials


def plan(
    pots: Ingredients, step: float | str, *, buffers: str = "average", base: int = 0
) -> tuple[int, Iterator[Recipe]]:
    """Return how many soups a grid judges, and their recipes.

    Raises:
        UsageError: K < 2, *step* does not divide 1, or there are too many soups.
    """
    parts = parts_of(step)
    if len(pots) < 2:
        what = f"a grid needs two or more ingredients, not {len(pots)}"
        raise UsageError(what, where="REF", fix="name more checkpoints")
    size = lattice_size(len(pots), parts)
    if size > MOST_SOUPS:
        fix = "take a larger step"
        raise UsageError(f"{size:,} soups are too many to judge", where="step", fix=fix)
    how: dict[str, Any] = {"buffers": buffers, "base": base, "origin": "grid"}
    return size, (Recipe.of(pots, weights, **how) for weights in lattice(len(pots), parts))


def _judge(
    net: nn.Module,
    pots: Ingredients,
    benchmark: Benchmark,
    recipes: Iterator[Recipe],
    size: int,
    folder: run.RunFolder | None,
    device: torch.device | str,
    progress: Progress,
) -> Trials:
    journal = folder.journal("trials") if folder else None
    known = journal.records if journal else []
    if len(known) > size:
        raise InputError(
            f"holds {len(known)} records of {size} soups", where=journal and journal.path
        )
    told = benchmark.describe()
    bound = bind(net, pots[0], device=device)
    trials: list[Trial] = []
    for i, recipe in enumerate(recipes):
        if i < len(known):
            trials.append(Trial.from_record(known[i], recipe, told))
            continue
        progress("soups", i, size)
        pour(bound, mixing.mix(pots, recipe))
        trial = Trial(recipe, benchmark(bound, progress=progress))
        trials.append(trial)
        if journal:
            journal.append(trial.to_record())
    progress("soups", size, size)
    return Trials(tuple(trials))


def write_choice(
    folder: run.RunFolder, pots: Ingredients, recipe: Recipe, model: str | None
) -> None:
    """Put ``recipe.json`` and ``soup.safetensors`` into a run folder."""
    commit.write_json(folder.file("recipe.json"), recipe.to_json(), force=True)
    mixing.mix_to_file(folder.file("soup.safetensors"), pots, recipe, model=model, force=True)

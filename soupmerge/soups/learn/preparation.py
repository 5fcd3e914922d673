"""What learning checks before it begins, and what its manifest says."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from typing import Any

from torch import Tensor

from soupmerge.errors import UsageError
from soupmerge.label_spaces.outputs import require_one_label
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.sketch import Sketch
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.settings import Settings, decisions
from soupmerge.soups.recalibration import Calibration
from soupmerge.types import Examples
from soupmerge.weights import classes, ledger
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.ingredients import Ingredients


def checked(
    ingredients: Ingredients,
    settings: Settings,
    *,
    data: Examples,
    epochs: int | None = None,
    stop_on: Examples | None = None,
    benchmark: Benchmark | None = None,
) -> Settings:
    """Return *settings*, with *epochs* if they are given, after checking that learning can begin.

    Raises:
        UsageError: K < 2, there is patience without a stopping split, images to learn from may have
            several right labels, or a network was trained on images that stop the learning or judge
            the soup.
        NumericsError: an ingredient holds NaN, Inf or a variance below 0.

    Warns:
        UserWarning: the images that judge have trained, stopped or chosen an ingredient.
    """
    if len(ingredients) < 2:
        what = f"learning needs two or more ingredients, not {len(ingredients)}"
        raise UsageError(what, where="REF", fix="name more checkpoints")
    if settings.patience and stop_on is None:
        what = "patience needs a stopping split"
        raise UsageError(what, where="patience", fix="give a split to stop on")
    require_one_label(data, "learning")
    ingredients.require_sound()
    for used in (data, stop_on, None if benchmark is None else benchmark.data):
        if used is not None:
            classes.require_same(ingredients, used)
    _require_unseen(ingredients, data, stop_on, benchmark)
    if benchmark is not None:
        behind = ledger.behind(ingredients)
        ledger.warn_of_leaks(behind, benchmark.data, ledger.JUDGED, stacklevel=4)
    return dataclasses.replace(settings, epochs=epochs or settings.epochs)


def _require_unseen(
    ingredients: Ingredients, data: Examples, stop_on: Examples | None, benchmark: Benchmark | None
) -> None:
    """Refuse to stop or judge on images that something was trained on.

    Huang 2023 (section 4) keeps one stopping split out of all training, from the base to the soup:
    an ingredient that was trained on it makes all its soups look better than they are.
    """
    training = Sketch.of(data)
    if benchmark is not None and (n := Sketch.of(benchmark.data).common(training)):
        what = f"at least {n} of the images that judge also train the coefficients"
        raise UsageError(what, where="judge split", fix="judge on another part of the data")
    if stop_on is None:
        return
    stopping = Sketch.of(stop_on)
    problems = []
    if n := stopping.common(training):
        problems.append(f"at least {n} of them also train the coefficients")
    for ref, entries in ledger.behind(ingredients):
        lines = ledger.leaks(entries, stopping, ledger.STOPPED)
        problems += [f"{ref} was {line}" for line in lines]
        if not entries:
            what = f"{ref} does not say what it was trained on"
            warnings.warn(f"{what}: that may include the stopping split", stacklevel=3)
    if problems:
        what = "networks were trained on images of the stopping split"
        fix = "stop on images that were kept out of all training"
        raise UsageError(what, problems=problems, where="stopping split", fix=fix)


def manifest_of(
    learner: Learner, model: str | None, calibration: Calibration | None = None
) -> dict[str, Any]:
    """Return everything that affects what is learned, besides the objectives."""
    settings = learner.settings
    described = [objective.describe() for objective in learner.objectives.values()]
    choices = decisions(
        settings,
        crafts=any(each.get("objective") != "clean" for each in described),
        statistics=any(map(is_statistic, learner.soup.ingredients.infos)),
        recalibrates=calibration is not None,
    )
    kind = "recipe" if settings.init.startswith("recipe:") else settings.init
    stop_on = learner.stop_on
    return {
        "model": model,
        "inputs": learner.soup.ingredients.fingerprint(),
        **learner.soup.ingredients.selection.noted(),
        "data": learner.data.fingerprint(),
        "settings": {**settings.to_manifest(), "init": kind},
        "start": _digest(learner.start),
        "stops on": None if stop_on is None else stop_on.fingerprint(),
        "augment": getattr(learner.augment, "__name__", None) if learner.augment else None,
        "seed": learner.seed,
        "device": learner.device.type,
        "decisions": choices,
    }


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()

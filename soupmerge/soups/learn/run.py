"""Learned soups: coefficients trained under attack, from ingredients to a run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import bind, ref_of
from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.run import Run
from soupmerge.sketch import Sketch
from soupmerge.soups.judge.trials import Trial
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.settings import Settings, decisions, usual_epochs
from soupmerge.soups.recalibration import Calibration, recalibrate
from soupmerge.storage import commit
from soupmerge.storage.names import RECIPE, SOUP, STATE, TRIALS
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import Augment, Examples, Objective
from soupmerge.weights import classes, ledger, mixing, saving
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe


def learn(  # several data sets have a part in it: they teach, stop, calibrate and judge
    net: nn.Module,
    ingredients: Ingredients,
    data: Examples,
    objective: Objective,
    *,
    epochs: int | None = None,
    settings: Settings = Settings(),
    augment: Augment | None = None,
    stop_on: Examples | None = None,
    calibration: Calibration | None = None,
    benchmark: Benchmark | None = None,
    seed: int = 0,
    run: Run = Run(),
) -> Trial:
    """Learn the coefficients of a soup by gradient descent, the ingredients held fixed.

    minimise over logits a:  E loss(θ(W); x_adv, y),  W[g] = softmax(a[g]),  x_adv from *objective*.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        data: examples to learn from, which must not judge the soup.
        objective: what to minimise, such as ``against(Linf(8 / 255))``.
        epochs: replaces that of *settings*.
        settings: groups, length, learning rate, detach dropout, start, buffers.
        augment: changes images before they are attacked; None leaves them.
        stop_on: examples on which the epoch of the lowest loss is chosen. Neither the ingredients
            nor these coefficients may have been trained on them; that they stopped the training of
            an ingredient does no harm. None takes the last epoch.
        calibration: on what batch-norm statistics are estimated at the end; None leaves them to
            the policy.
        benchmark: judges the soup at the end.
        seed: for the start, order, augmentation, attacks and dropout.
        run: run folder and device. The folder journals epochs, resumes bit for bit, and receives
            recipe and soup.

    Returns:
        The learned recipe, judged if there is a *benchmark*.

    Raises:
        UsageError: K < 2, a setting is invalid, the run folder holds another run, or a network was
            trained on images that stop the learning or judge the soup.
        NumericsError: the loss is not finite; the last good state stays in the run folder.
    """
    if len(ingredients) < 2:
        what = f"learning needs two or more ingredients, not {len(ingredients)}"
        raise UsageError(what, where="REF", fix="name more checkpoints")
    if settings.patience and stop_on is None:
        raise UsageError("waits for nothing", where="patience", fix="give a split to stop on")
    ingredients.require_sound()
    for used in (data, stop_on, None if benchmark is None else benchmark.data):
        if used is not None:
            classes.require_same(ingredients, used)
    _require_unseen(ingredients, data, stop_on, benchmark)
    length = epochs or settings.epochs or usual_epochs(len(ingredients))
    settings = dataclasses.replace(settings, epochs=length)
    learner = Learner(
        net,
        ingredients,
        data,
        objective,
        settings,
        augment=augment,
        stop_on=stop_on,
        seed=seed,
        device=run.device,
    )
    judge = None if benchmark is None else benchmark.describe()
    manifest = {**_manifest(learner, ref_of(net), calibration), "benchmark": judge}
    manifest |= {"calibration": calibration.describe()} if calibration else {}
    with run.opened(
        manifest, inputs=ingredients.files, room=ingredients.bytes, images=data
    ) as folder:
        trial = _known_trial(folder, judge)
        if trial is None:
            trial = Trial(_finished(learner.learn(folder, run.progress), learner, calibration))
        depth = learner.soup.by_depth()
        del learner  # the ingredients in memory
        state = None
        if calibration is not None or benchmark is not None:
            state = _state(net, ingredients, trial.recipe, calibration, run.device)
        if benchmark is not None and state is not None and trial.report is None:
            report = benchmark(bind(net, state, device=run.device), progress=run.progress)
            trial = Trial(trial.recipe, report)
        if folder:
            kept = state if calibration else None
            _write(folder, ingredients, trial, kept, model=ref_of(net), depth=depth)
    return trial


def _require_unseen(
    ingredients: Ingredients, data: Examples, stop_on: Examples | None, benchmark: Benchmark | None
) -> None:
    """Refuse images that are to stop or judge, but on which something was trained.

    Huang 2023 (section 4) holds one stopping split out of all training, from the base to the soup:
    an ingredient that was trained on it makes every soup of it look better than it is.
    """
    taught = Sketch.of(data)
    if benchmark is not None and (n := Sketch.of(benchmark.data).common(taught)):
        what = f"{n} or more of the images that judge also teach the coefficients"
        raise UsageError(what, where="judge split", fix="judge on another part of the data")
    if stop_on is None:
        return
    stopping = Sketch.of(stop_on)
    problems = []
    if n := stopping.common(taught):
        problems.append(f"{n} or more of them also teach the coefficients")
    for ingredient in ingredients:
        entries = ledger.ledger_of(ingredient)
        lines = ledger.leaks(entries, stopping, ledger.STOPPED)
        problems += [f"{ingredient.ref} was {line}" for line in lines]
        if not entries:
            what = (
                f"{ingredient.ref} does not say what it was trained on: it may have been trained on"
            )
            warnings.warn(f"{what} the stopping split", stacklevel=3)
    if problems:
        what = "networks were trained on images that are to stop the learning"
        fix = "stop on images that were held out of all training"
        raise UsageError(what, problems=problems, where="stopping split", fix=fix)


def _manifest(
    learner: Learner, model: str | None, calibration: Calibration | None
) -> dict[str, Any]:
    """Return whatever changes a number of the run."""
    settings, objective = learner.settings, learner.objective.describe()
    decided = decisions(
        settings,
        crafts=objective.get("objective") != "clean",
        statistics=any(map(is_statistic, learner.soup.ingredients.infos)),
        recalibrates=calibration is not None,
    )
    kind = "recipe" if settings.init.startswith("recipe:") else settings.init
    stop_on = learner.stop_on
    return {
        "command": "learn",
        "model": model,
        "inputs": learner.soup.ingredients.fingerprint(),
        **learner.soup.ingredients.selection.noted(),
        "data": learner.data.fingerprint(),
        "objective": objective,
        "settings": {**settings.noted(), "init": kind},
        "start": _digest(learner.first),
        "stops on": None if stop_on is None else stop_on.fingerprint(),
        "augment": getattr(learner.augment, "__name__", None) if learner.augment else None,
        "seed": learner.seed,
        "device": learner.device.type,
        "decisions": decided,
    }


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def _known_trial(folder: RunFolder | None, judge: Any) -> Trial | None:
    """Return the trial that *folder* holds, if its learning was finished."""
    records = folder.journal(TRIALS).records if folder else []
    if not records:
        return None
    recipe = Recipe.from_json(records[0].get("recipe"), where=TRIALS)
    return Trial.from_record(records[0], recipe, judge)


def _finished(recipe: Recipe, learner: Learner, calibration: Calibration | None) -> Recipe:
    """Return *recipe* with what it has seen, and what its statistics are estimated on."""
    seen = [ledger.entry("learn", learner.data, ledger.TRAINED)]
    if learner.stop_on is not None:
        seen.append(ledger.entry("learn", learner.stop_on, ledger.STOPPED))
    recipe = dataclasses.replace(recipe, seen=tuple(seen))
    if calibration is None:
        return recipe
    return dataclasses.replace(recipe, buffers="recalibrate", calibration=calibration.describe())


def _state(
    net: nn.Module,
    ingredients: Ingredients,
    recipe: Recipe,
    calibration: Calibration | None,
    device: torch.device | str,
) -> dict[str, Tensor]:
    state = mixing.mix(ingredients, recipe)
    return state if calibration is None else recalibrate(net, state, calibration, device=device)


def _write(
    folder: RunFolder,
    ingredients: Ingredients,
    trial: Trial,
    state: dict[str, Tensor] | None,
    *,
    model: str | None,
    depth: list[str],
) -> None:
    """Write recipe, soup and trial, and forget the state; may be done twice."""
    commit.write_json(folder.file(RECIPE), trial.recipe.to_json(), force=True)
    soup = folder.file(SOUP)
    if state is None:
        saving.mix_to_file(soup, ingredients, trial.recipe, model=model, force=True)
    else:
        saving.save_soup(soup, state, ingredients, trial.recipe, model=model, force=True)
    journal = folder.journal(TRIALS)
    if not journal.records:
        journal.append({**trial.to_record(), "depth": depth})
    Snapshot(folder.file(STATE)).clear()

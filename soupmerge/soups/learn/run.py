"""Learned soups: train coefficients under attack, and write the soup to a run folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import bind, ref_of
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.run import Run
from soupmerge.soups.judge.trials import Trial
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.preparation import checked, manifest_of
from soupmerge.soups.learn.settings import Settings
from soupmerge.soups.recalibration import Calibration, recalibrate
from soupmerge.storage import commit
from soupmerge.storage.names import RECIPE, SOUP, STATE, TRIALS
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import Augment, Examples, Objective
from soupmerge.weights import ledger, mixing, saving
from soupmerge.weights.front import recipe_at
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

OBJECTIVE = "loss"
"""The name of the only objective of a learned soup."""


def learn(  # several data sets take part: they train, stop, calibrate and judge
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
    """Learn the coefficients of a soup by gradient descent, with fixed ingredients (Huang 2023).

    minimise over logits a:  E loss(θ(W); x_adv, y),  W[g] = softmax(a[g]),  x_adv from *objective*.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        data: examples to learn from, which must not judge the soup.
        objective: the loss to minimise, such as ``against(Linf(8 / 255))``.
        epochs: overrides the epochs of *settings*.
        settings: groups, length, learning rate, detach dropout, start and buffers.
        augment: changes images before they are attacked; None leaves them unchanged.
        stop_on: examples on which the epoch with the lowest loss is chosen. Neither the ingredients
            nor the coefficients may have been trained on them, but they may have stopped the
            training of an ingredient. None takes the last epoch.
        calibration: images on which batch-norm statistics are re-estimated at the end; None leaves
            them to the buffer policy.
        benchmark: judges the soup at the end.
        seed: seed for the start, order, augmentation, attacks and dropout.
        run: run folder, which journals epochs and receives recipe and soup, and device. A resumed
            run gives the same bits.

    Returns:
        The learned recipe, with a report if there is a *benchmark*.

    Raises:
        UsageError: K < 2, a setting is invalid, the run folder holds another run, or a network was
            trained on images that stop the learning or judge the soup.
        NumericsError: the loss is not finite; the last good state stays in the run folder.

    Warns:
        UserWarning: the images that judge have trained, stopped or chosen an ingredient.

    Example:
        >>> settings = sm.Settings(by="model", init="uniform", batch_size=20)
        >>> trial = sm.learn(net, ingredients, train, sm.against(None), epochs=1, settings=settings)
        >>> round(sum(trial.recipe.weights[0]), 6)
        1.0
    """
    settings = checked(
        ingredients, settings, epochs=epochs, data=data, stop_on=stop_on, benchmark=benchmark
    )
    learner = Learner(
        net,
        ingredients,
        data,
        {OBJECTIVE: objective},
        settings,
        augment=augment,
        stop_on=stop_on,
        seed=seed,
        device=run.device,
    )
    description = None if benchmark is None else benchmark.describe()
    manifest = {
        "command": "learn",
        **manifest_of(learner, ref_of(net), calibration),
        "objective": objective.describe(),
        "benchmark": description,
    }
    manifest |= {"calibration": calibration.describe()} if calibration else {}
    with run.opened(
        manifest, inputs=ingredients.files, room=ingredients.bytes, images=data
    ) as folder:
        trial = _finished_trial(folder, description)
        if trial is None:
            parameters = learner.learn(folder, run.progress)
            recipe = recipe_at(learner.soup.recipe(), settings.family, parameters, (1.0,))
            trial = Trial(_with_provenance(recipe, learner, calibration))
        depth = learner.soup.by_depth()
        del learner  # frees the ingredients in memory
        state = None
        if calibration is not None or benchmark is not None:
            state = _state(net, ingredients, trial.recipe, calibration, run.device)
        if benchmark is not None and state is not None and trial.report is None:
            report = benchmark(bind(net, state, device=run.device), progress=run.progress)
            trial = Trial(trial.recipe, report)
        if folder:
            recalibrated = state if calibration else None
            _write(folder, ingredients, trial, recalibrated, model=ref_of(net), depth=depth)
    return trial


def _finished_trial(folder: RunFolder | None, benchmark: Any) -> Trial | None:
    """Return the trial in *folder*, if its learning has finished."""
    records = folder.journal(TRIALS).records if folder else []
    if not records:
        return None
    recipe = Recipe.from_json(records[0].get("recipe"), where=TRIALS)
    return Trial.from_record(records[0], recipe, benchmark)


def _with_provenance(recipe: Recipe, learner: Learner, calibration: Calibration | None) -> Recipe:
    """Return *recipe* with the images it has seen and the calibration of its statistics."""
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
    """Write recipe, soup and trial, and remove the state; doing so twice does no harm."""
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

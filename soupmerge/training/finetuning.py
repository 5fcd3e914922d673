"""Making an ingredient: adversarial (or clean) training of a base, or from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.errors import SoupmergeError
from soupmerge.storage import commit, names, run_folder
from soupmerge.training.schedules import Schedule
from soupmerge.training.trainer import Trainer, snapshot_of
from soupmerge.types import Examples, Objective, Progress, quiet
from soupmerge.weights.files import Checkpoint, open_checkpoint


def finetune(
    net: nn.Module,
    data: Examples,
    objective: Objective,
    out: Path | str,
    *,
    base: Checkpoint | None = None,
    schedule: Schedule = Schedule(),
    seed: int = 0,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Progress = quiet,
) -> Path:
    """Train *net* on *data*, from *base* or from scratch, and write the result to *out*.

    Images are crafted with the network in evaluation mode; the step on them is taken in training
    mode. State is kept in the folder ``OUT.run`` beside *out*, so that a killed training goes on
    where it was, and gives the same bytes.

    Args:
        net: the network; it is copied, not changed.
        data: training examples.
        objective: what to minimise, such as ``against(Linf(8 / 255))``.
        out: a ``.safetensors`` file; snapshots go to ``OUT-epochN`` beside it.
        base: weights to start from; None starts from those of *net*.
        schedule: length, learning rate, augmentation, precision.
        seed: for order, augmentation and attacks.
        device: where to train.
        force: replace *out* and forget the state of an earlier training.
        progress: is told of steps.

    Returns:
        *out*.

    Raises:
        UsageError: the folder ``OUT.run`` holds a training with other settings.
        OutputError: *out* exists and is not this training's, or cannot be written.
        InputError: *base* does not fit *net*.
        NumericsError: the loss is not finite; the last good state is kept.
    """
    out = Path(out)
    outputs = [out, *(snapshot_of(out, n) for n in schedule.snapshots)]
    if base is not None:
        base.require_sound()
        for output in outputs:
            commit.check_not_input(output, base.files)
    folder = out.with_suffix(".run")
    trainer = Trainer(net, data, objective, base, schedule, seed, torch.device(device))
    with commit.writing(folder):
        begun = (folder / names.MANIFEST).exists()
    if not begun:  # so that no folder is left behind for a training that is refused
        _require_own_or_free(outputs, trainer.training, force)
    with run_folder.opened(folder, trainer.manifest, force=force, room=trainer.room) as opened:
        _require_own_or_free(outputs, trainer.training, force)
        trainer.train(opened, out, progress=progress)
    return out


def _require_own_or_free(outputs: list[Path], training: dict[str, Any], force: bool) -> None:
    for output in outputs:
        if not _made_by(output, training):
            commit.check_free(output, force=force)


def _made_by(output: Path, training: dict[str, Any]) -> bool:
    """Return whether *output* was written by *training*, and may be written again."""
    try:
        found = open_checkpoint(output).notes_of_soupmerge["training"]
        return bool(
            run_folder.essence({**found, "epochs done": None}) == run_folder.essence(training)
        )
    except (SoupmergeError, KeyError, TypeError):
        return False

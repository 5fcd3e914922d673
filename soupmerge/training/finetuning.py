"""Fine-tuning: adversarial or clean training from a base, or from scratch."""

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


def finetune(  # it writes a file and not a run folder, so it takes no `Run`
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

    Images are crafted with the network in evaluation mode, and steps are taken in training mode.
    The state of the training is kept in the run folder ``OUT.run`` beside *out*, so that a training
    that was interrupted can be resumed and writes the same bytes.

    Args:
        net: the network, which is copied and not changed.
        data: the training examples.
        objective: what to minimise, such as ``against(Linf(8 / 255))``.
        out: a ``.safetensors`` file; snapshots are written beside it, to ``OUT-epochN``.
        base: the weights to start from; None starts from those of *net*.
        schedule: length, learning rate, augmentation and precision.
        seed: seed of the order of the examples, the augmentation and the attacks.
        device: the device to train on.
        force: replace *out*, and discard the state of an earlier training.
        progress: callback for progress, in steps; see `types.Progress`.

    Returns:
        *out*.

    Raises:
        UsageError: the run folder ``OUT.run`` is that of a training with other settings.
        OutputError: *out* exists and was not written by this training, or cannot be written.
        InputError: *base* does not fit *net*.
        NumericsError: the loss is not finite; the last state before is kept.

    Example:
        >>> import tempfile, soupmerge as sm
        >>> net, objective = sm.model("digits-cnn"), sm.against(sm.Linf(0.1))
        >>> images, short = sm.data("digits", limit=16), sm.Schedule(epochs=1, augment="none")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = finetune(net, images, objective, f"{folder}/net.safetensors", schedule=short)
        >>> out.name
        'net.safetensors'
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
        started = (folder / names.MANIFEST).exists()
    if not started:  # a training that is refused leaves no folder behind
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
        notes = {**open_checkpoint(output).notes_of_soupmerge["training"], "epochs done": None}
        return bool(run_folder.essence(notes) == run_folder.essence(training))
    except (SoupmergeError, KeyError, TypeError):
        return False

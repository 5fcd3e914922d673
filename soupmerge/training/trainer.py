"""The training loop, which can be resumed at any step."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from soupmerge.asking import answering, probe
from soupmerge.binding import cast, frozen, load_into, ref_of
from soupmerge.choices import AUGMENTATIONS, implementation
from soupmerge.errors import NumericsError
from soupmerge.label_spaces.outputs import require_one_label
from soupmerge.references import without_folders
from soupmerge.schedule import cosine, order, stream
from soupmerge.storage import run_folder
from soupmerge.storage.names import HISTORY, STATE
from soupmerge.storage.snapshot import Snapshot
from soupmerge.training.schedules import Schedule
from soupmerge.types import Augment, Examples, Objective, Progress, expect
from soupmerge.weights import ledger, lineage, saving
from soupmerge.weights.files import Checkpoint


@dataclass
class _Position:
    """The position in a training: its next step, and sums over the epoch so far."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0

    def next_epoch(self) -> None:
        self.epoch, self.step, self.loss, self.right, self.seen = self.epoch + 1, 0, 0.0, 0, 0


def snapshot_of(out: Path, epoch: int) -> Path:
    """Return the path of the snapshot after *epoch*, beside *out*."""
    return out.with_stem(f"{out.stem}-epoch{epoch}")


@dataclass
class Trainer:
    """A network in training: everything that changes the result, and the position reached."""

    net: nn.Module
    data: Examples
    objective: Objective
    base: Checkpoint | None
    schedule: Schedule
    seed: int
    device: torch.device
    at: _Position = field(default_factory=_Position)

    def __post_init__(self) -> None:
        self.model_ref = ref_of(self.net)
        self.net = copy.deepcopy(self.net)
        if self.base is not None:
            load_into(self.net, self.base)
        self.net = self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net.requires_grad_(True).train()
        self.optimiser = torch.optim.SGD(
            self.net.parameters(),
            momentum=self.schedule.momentum,
            weight_decay=self.schedule.weight_decay,
        )
        self.augment: Augment = implementation(AUGMENTATIONS, self.schedule.augment, "augment")
        classifier = cast(self.net, self.schedule.precision, self.device)
        require_one_label(self.data, "training")
        with frozen(self.net):
            probe(classifier, self.data, self.device)
        self.classifier = answering(classifier, self.data)
        self.steps = -(-len(self.data) // self.schedule.batch_size)

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything that changes the result of the training."""
        base = None
        if self.base is not None:
            # The name without its folders, so that the bytes are the same in every folder.
            base = {"ref": Path(self.base.ref).name, "sha256": self.base.sha256}
        return {
            "command": "finetune",
            "model": self.model_ref,
            "base": base,
            "data": self.data.fingerprint(),
            "objective": self.objective.describe(),
            "schedule": asdict(self.schedule),
            "seed": self.seed,
            "device": self.device.type,
            "decisions": _decisions(self.net),
        }

    @property
    def training(self) -> dict[str, Any]:
        """How the weights are made, for the metadata of the files that are written."""
        entries = {k: v for k, v in self.manifest.items() if k not in ("command", "model")}
        entries["data"] = {**entries["data"], "ref": without_folders(self.data.ref)}
        # Through JSON, so that it equals what is read from a file.
        notes: dict[str, Any] = json.loads(json.dumps({**entries, "epochs done": None}))
        return notes

    @property
    def room(self) -> int:
        """Bytes needed on disk: for the output, and for two copies of weights and momentum."""
        size: int = sum(t.nbytes for t in self.net.state_dict().values())
        return size * (1 + len(self.schedule.snapshots) + 2 * 2)

    @cached_property
    def entry(self) -> dict[str, Any]:
        """The entry on the training images in the ledger of the result."""
        return ledger.entry("finetune", self.data, ledger.TRAINED)

    def train(self, opened: run_folder.RunFolder, out: Path, *, progress: Progress) -> None:
        """Take the remaining steps and write the result."""
        history = opened.journal(HISTORY)
        snapshot = Snapshot(opened.file(STATE))
        state = snapshot.load()
        if state is None and len(history.records) == self.schedule.epochs and out.exists():
            progress("epochs", self.schedule.epochs, self.schedule.epochs, "done before")
            return
        if state is not None:
            with snapshot.restoring():
                self._restore(*state)
        while self.at.epoch < self.schedule.epochs:
            self._epoch(snapshot, progress)
            if len(history.records) == self.at.epoch:
                history.append(self._record())
            self.at.next_epoch()
            # It is written before the state: after a kill in between, the epoch is repeated.
            if self.at.epoch in self.schedule.snapshots:
                self._write(snapshot_of(out, self.at.epoch))
            snapshot.save(*self._state())
        self._write(out)
        snapshot.clear()

    @property
    def _steps_done(self) -> int:
        return self.at.epoch * self.steps + self.at.step

    @property
    def _steps_in_all(self) -> int:
        return self.schedule.epochs * self.steps

    def _epoch(self, snapshot: Snapshot, progress: Progress) -> None:
        visited = order(len(self.data), self.seed, self.at.epoch)
        indices = visited.split(self.schedule.batch_size)
        draw = (self.seed, self.at.epoch)
        expect(self.data, visited[self.at.step * self.schedule.batch_size :], draw)
        while self.at.step < self.steps:
            if snapshot.due():
                snapshot.save(*self._state())
            self._step(indices[self.at.step])
            self.at.step += 1
            progress("steps", self._steps_done, self._steps_in_all, self._note())

    def _step(self, indices: Tensor) -> None:
        at = (self.seed, self.at.epoch, self.at.step)
        x, y = self.data.batch(indices)
        x = self.augment(x, stream("augment", *at))
        x, y = x.to(self.device, non_blocking=True), y.to(self.device)
        with frozen(self.net):
            generator = stream("attack", *at)
            x_adv = self.objective.craft(self.classifier, x, y, generator=generator)
        logits: list[Tensor] = []

        def recording(images: Tensor, /) -> Tensor:
            logits.append(self.classifier(images))
            return logits[-1]

        loss = self.objective.loss(recording, x, x_adv, y)
        if not torch.isfinite(loss):
            where = f"epoch {self.at.epoch + 1}, step {self.at.step + 1}"
            raise NumericsError("the loss is not finite", where=where, fix="try a lower --lr")
        self.optimiser.zero_grad()
        loss.backward()
        warmup = round(self.schedule.warmup * self.steps)
        lr = cosine(self.schedule.lr, self._steps_done, self._steps_in_all, warmup)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.at.loss += loss.item() * len(y)
        self.at.right += int((logits[0].argmax(1) == y).sum())
        self.at.seen += len(y)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"weight/{n}": t for n, t in self.net.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            state = self.optimiser.state.get(parameter, {})
            tensors |= {f"{key}/{name}": t for key, t in state.items() if isinstance(t, Tensor)}
        return tensors, asdict(self.at)

    def _restore(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        load_into(
            self.net,
            {n.removeprefix("weight/"): t for n, t in tensors.items() if n.startswith("weight/")},
        )
        for name, parameter in self.net.named_parameters():
            if f"momentum_buffer/{name}" in tensors:
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum_buffer/{name}"])
                self.optimiser.state[parameter] = {"momentum_buffer": buffer}
        self.at = _Position(**position)

    def _note(self) -> str:
        return (
            f"loss {self.at.loss / self.at.seen:.3f}, accuracy {self.at.right / self.at.seen:.1%}"
        )

    def _record(self) -> dict[str, Any]:
        at = self.at
        return {"epoch": at.epoch + 1, "loss": at.loss / at.seen, "accuracy": at.right / at.seen}

    def _write(self, out: Path) -> None:
        notes: dict[str, Any] = {"training": {**self.training, "epochs done": self.at.epoch}}
        before = []
        if self.base is not None:
            notes["family"] = [lineage.node_of(self.base)]
            before = [e for e in ledger.ledger_of(self.base) if e != self.entry]
        notes[ledger.SEEN] = [*before, self.entry]
        state = self.net.state_dict()
        saving.save(out, state, model=self.model_ref, notes=notes, force=True)


def _decisions(net: nn.Module) -> dict[str, str]:
    """Return the decisions that a training of *net* makes without a setting."""
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        return {}
    return {"batch norm": "evaluation mode to craft, training mode to step"}

"""The training loop: craft, step, remember; resumable at any step."""

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

from soupmerge.binding import cast, frozen, load_into, probe, ref_of
from soupmerge.errors import NumericsError
from soupmerge.references import without_folders
from soupmerge.schedule import cosine, order, stream
from soupmerge.storage import run_folder
from soupmerge.storage.names import HISTORY, STATE
from soupmerge.storage.snapshot import Snapshot
from soupmerge.training.augment import AUGMENTS
from soupmerge.training.schedules import Schedule
from soupmerge.types import Examples, Objective, Progress
from soupmerge.weights import ledger, lineage, saving
from soupmerge.weights.files import Checkpoint


@dataclass
class _Progressed:
    """Where training stands: the next step to take, and the sums over this epoch so far."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0

    def next_epoch(self) -> None:
        self.epoch, self.step, self.loss, self.right, self.seen = self.epoch + 1, 0, 0.0, 0, 0


def snapshot_of(out: Path, epoch: int) -> Path:
    """Return where the snapshot after *epoch* goes, beside *out*."""
    return out.with_stem(f"{out.stem}-epoch{epoch}")


@dataclass
class Trainer:
    """A network on its way: all that changes the result, and where it stands."""

    net: nn.Module
    data: Examples
    objective: Objective
    base: Checkpoint | None
    schedule: Schedule
    seed: int
    device: torch.device
    at: _Progressed = field(default_factory=_Progressed)

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
        self.classifier = cast(self.net, self.schedule.precision, self.device)
        with frozen(self.net):
            probe(self.classifier, self.data, self.device)
        self.steps = -(-len(self.data) // self.schedule.batch_size)

    @property
    def manifest(self) -> dict[str, Any]:
        """What changes a number of this training."""
        # Its name, not its path: the same bytes in every folder, and telling of none.
        named = Path(self.base.ref).name if self.base else ""
        base = {"ref": named, "sha256": self.base.sha256} if self.base else None
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
        """How the weights are made, as it is noted in every file that is written."""
        told = {k: v for k, v in self.manifest.items() if k not in ("command", "model")}
        told["data"] = {**told["data"], "ref": without_folders(self.data.ref)}
        # Through JSON, so that it compares as it is read back.
        noted: dict[str, Any] = json.loads(json.dumps({**told, "epochs done": None}))
        return noted

    @property
    def room(self) -> int:
        """Bytes on disk: what is written, and weights and momentum as they are kept, twice."""
        size: int = sum(t.nbytes for t in self.net.state_dict().values())
        return size * (1 + len(self.schedule.snapshots) + 2 * 2)

    @cached_property
    def entry(self) -> dict[str, Any]:
        """What the ledger of the result says of its images."""
        return ledger.entry("finetune", self.data, ledger.TRAINED)

    def train(self, opened: run_folder.RunFolder, out: Path, *, progress: Progress) -> None:
        """Take all steps that are left, and write the result."""
        history = opened.journal(HISTORY)
        snapshot = Snapshot(opened.file(STATE))
        kept = snapshot.load()
        if kept is None and len(history.records) == self.schedule.epochs and out.exists():
            progress("epochs", self.schedule.epochs, self.schedule.epochs, "done before")
            return
        if kept is not None:
            with snapshot.restoring():
                self._restore(*kept)
        while self.at.epoch < self.schedule.epochs:
            self._epoch(snapshot, progress)
            if len(history.records) == self.at.epoch:
                history.append(self._record())
            self.at.next_epoch()
            # Before the state: a kill in between repeats the epoch, and writes it again.
            if self.at.epoch in self.schedule.snapshots:
                self._write(snapshot_of(out, self.at.epoch))
            snapshot.save(*self._kept())
        self._write(out)
        snapshot.clear()

    def _epoch(self, snapshot: Snapshot, progress: Progress) -> None:
        indices = order(len(self.data), self.seed, self.at.epoch).split(self.schedule.batch_size)
        while self.at.step < self.steps:
            if snapshot.due():
                snapshot.save(*self._kept())
            self._step(indices[self.at.step])
            self.at.step += 1
            done = self.at.epoch * self.steps + self.at.step
            progress("steps", done, self.schedule.epochs * self.steps, self._note())

    def _step(self, indices: Tensor) -> None:
        place = (self.seed, self.at.epoch, self.at.step)
        x, y = self.data.batch(indices)
        x = AUGMENTS[self.schedule.augment](x, stream("augment", *place))
        x, y = x.to(self.device), y.to(self.device)
        with frozen(self.net):
            generator = stream("attack", *place)
            x_adv = self.objective.craft(self.classifier, x, y, generator=generator)
        logits: list[Tensor] = []

        def watched(images: Tensor, /) -> Tensor:
            logits.append(self.classifier(images))
            return logits[-1]

        loss = self.objective.loss(watched, x, x_adv, y)
        if not torch.isfinite(loss):
            where = f"epoch {self.at.epoch + 1}, step {self.at.step + 1}"
            raise NumericsError("the loss is not finite", where=where, fix="try a lower --lr")
        self.optimiser.zero_grad()
        loss.backward()
        done = self.at.epoch * self.steps + self.at.step
        warmup = round(self.schedule.warmup * self.steps)
        lr = cosine(self.schedule.lr, done, self.schedule.epochs * self.steps, warmup)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.at.loss += loss.item() * len(y)
        self.at.right += int((logits[0].argmax(1) == y).sum())
        self.at.seen += len(y)

    def _kept(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
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
                velocity = torch.empty_like(parameter).copy_(tensors[f"momentum_buffer/{name}"])
                self.optimiser.state[parameter] = {"momentum_buffer": velocity}
        self.at = _Progressed(**position)

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
    """Return what a training of *net* settles that no setting says."""
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        return {}
    return {"batch norm": "evaluation mode to craft, training mode to step"}

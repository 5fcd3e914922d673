"""The steps of learning: craft, differentiate, descend; resumable after each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from soupmerge.binding import cast, probe
from soupmerge.errors import NumericsError
from soupmerge.schedule import cosine, order, stream
from soupmerge.soups.learn import stacks, starts
from soupmerge.soups.learn.settings import Settings, usual_epochs
from soupmerge.soups.learn.soup import LearnedSoup, draw_active
from soupmerge.storage import run_folder
from soupmerge.storage.names import HISTORY, STATE
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import Augment, Classifier, Examples, Objective, Progress
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe


class Learner:
    """Coefficients in training: everything that affects the result, and the current state.

    Args:
        net: the network of the ingredients; it is not changed.
        ingredients: the ingredients.
        data: examples to learn from.
        objective: the loss to minimise, and how to craft images for it.
        settings: groups, length, learning rate and so on.
        augment: changes images before they are attacked.
        stop_on: examples on which the best epoch is chosen; None takes the last epoch.
        seed: seed for the start, order, augmentation, attacks and dropout.
        device: device of torch.
    """

    def __init__(
        self,
        net: nn.Module,
        ingredients: Ingredients,
        data: Examples,
        objective: Objective,
        settings: Settings,
        *,
        augment: Augment | None = None,
        stop_on: Examples | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data, self.objective, self.settings, self.augment = data, objective, settings, augment
        self.stop_on, self.seed, self.device = stop_on, seed, torch.device(device)
        plan = stacks.plan(ingredients, place=settings.place, store=settings.store, device=device)
        self.soup = LearnedSoup(
            net,
            ingredients,
            by=settings.by,
            buffers=settings.buffers,
            base=settings.base,
            device=device,
            place=plan.place,
            store=plan.store,
            statistics=settings.batch_norm == "eval",
        )
        self.start = starts.start(
            settings.init, ingredients, self.soup.groups, stream("start", seed)
        )
        self.logits = self.start.clone().to(device).requires_grad_()
        self.optimiser = torch.optim.SGD([self.logits], lr=settings.lr)
        classifier = self.soup.classifier(self.soup.mix(self.logits.softmax(1)))
        probe(cast(classifier, settings.precision, self.device), data, self.device)
        self.steps = -(-len(data) // settings.batch_size)
        self.epochs = settings.epochs or usual_epochs(len(ingredients))
        self.best = self.logits.detach().clone()
        self.state: dict[str, Any] = {"step": 0, "loss": 0.0, "seen": 0, "best": None, "epoch": 0}

    def learn(self, folder: run_folder.RunFolder | None, progress: Progress) -> Recipe:
        """Take all remaining steps, and return the recipe."""
        history = folder.journal(HISTORY) if folder else None
        snapshot = Snapshot(folder.file(STATE), seconds=20) if folder else None
        if snapshot and (saved := snapshot.load()):
            with snapshot.restoring():
                self.logits.data.copy_(saved[0]["logits"])
                self.best.copy_(saved[0]["best"])
                self.state = {key: saved[1][key] for key in self.state}
        while self.state["step"] < self.epochs * self.steps and not self._out_of_patience():
            epoch, step = divmod(self.state["step"], self.steps)
            indices = order(len(self.data), self.seed, epoch)
            self._step(indices.split(self.settings.batch_size)[step])
            ends_epoch = step + 1 == self.steps
            progress("steps", self.state["step"], self.epochs * self.steps, self._note())
            if ends_epoch:
                record = self._end_epoch(epoch)
                if history and len(history.records) == epoch:
                    history.append(record)
            if snapshot and (ends_epoch or snapshot.due()):
                snapshot.save({"logits": self.logits, "best": self.best}, self.state)
        return self.soup.recipe(self.best if self.stop_on else self.logits)

    def _step(self, indices: Tensor) -> None:
        key = (self.seed, self.state["step"])
        x, y = self.data.batch(indices)
        if self.augment:
            x = self.augment(x, stream("augment", *key))
        x, y = x.to(self.device), y.to(self.device)
        alpha = self.logits.softmax(1)
        mixed = self.soup.mix(alpha)
        x_adv = self.objective.craft(self._cast(mixed), x, y, generator=stream("attack", *key))
        active = draw_active(len(alpha), self.settings.dropout, stream("dropout", *key))
        leaves = self.soup.leaves(active, mixed)
        classifier = self._cast(self.soup.substitute(leaves, mixed))
        with self._batch_norm_mode():
            loss = self.objective.loss(classifier, x, x_adv, y)
        self._descend(loss, alpha, leaves, active, mixed, len(y))

    def _cast(self, theta: dict[str, Tensor]) -> Classifier:
        return cast(self.soup.classifier(theta), self.settings.precision, self.device)

    @contextlib.contextmanager
    def _batch_norm_mode(self) -> Iterator[None]:
        """Let batch norms use the statistics of the batch if the settings say so, updating none."""
        batch = self.settings.batch_norm == "batch"
        norms = [m for m in self.soup.net.modules() if isinstance(m, _BatchNorm)] if batch else []
        before = [norm.track_running_stats for norm in norms]
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        try:
            yield
        finally:
            for norm, tracked in zip(norms, before, strict=True):
                norm.training, norm.track_running_stats = False, tracked

    def _descend(
        self,
        loss: Tensor,
        alpha: Tensor,
        leaves: dict[str, Tensor],
        active: Tensor,
        mixed: dict[str, Tensor],
        images: int,
    ) -> None:
        """Take a step down the mean *loss* over *images*, by the chain rule through θ and α."""
        step, settings = self.state["step"], self.settings
        if not torch.isfinite(loss):
            fix = "the last good state is kept; try a lower --lr"
            raise NumericsError("the loss is not finite", where=f"step {step + 1}", fix=fix)
        grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        grad_alpha = self.soup.gradient(dict(zip(leaves, grads, strict=True)), active, mixed)
        if settings.rescale:
            grad_alpha = grad_alpha / (1 - settings.dropout)
        self.logits.grad = torch.autograd.grad(alpha, self.logits, grad_alpha.to(alpha))[0]
        lr = cosine(settings.lr, step, self.epochs * self.steps)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.state["step"] = step + 1
        self.state["loss"] += loss.item() * images
        self.state["seen"] += images

    def _note(self) -> str:
        return f"loss {self.state['loss'] / self.state['seen']:.4f}"

    def _end_epoch(self, epoch: int) -> dict[str, Any]:
        """Return the record of *epoch*, and reset the sums for the next."""
        alpha = self.logits.detach().cpu().double().softmax(1)
        entropy = -(alpha * alpha.clamp(min=1e-30).log()).sum(1).mean()
        record = {
            "epoch": epoch + 1,
            "loss": self.state["loss"] / self.state["seen"],
            "entropy": entropy.item(),
            "moved": (alpha - self.start.double().softmax(1)).abs().sum(1).mean().item() / 2,
            "weights": [round(w, 6) for w in alpha.mean(0).tolist()],
        }
        self.state |= {"loss": 0.0, "seen": 0}
        if self.stop_on is not None:
            record["val"] = self.loss_on(self.stop_on)
            if self.state["best"] is None or record["val"] < self.state["best"]:
                self.best.copy_(self.logits.detach())
                self.state |= {"best": record["val"], "epoch": epoch + 1}
        return record

    def loss_on(self, examples: Examples) -> float:
        """Return the mean loss of the soup on *examples*, with the same noise in every epoch."""
        classifier = self._cast(self.soup.mix(self.logits.softmax(1)))
        total = 0.0
        for indices in torch.arange(len(examples)).split(self.settings.batch_size):
            x, y = (t.to(self.device) for t in examples.batch(indices))
            noise = stream("stop", self.seed, int(indices[0]))
            x_adv = self.objective.craft(classifier, x, y, generator=noise)
            with torch.no_grad():
                total += float(self.objective.loss(classifier, x, x_adv, y)) * len(y)
        return total / len(examples)

    def _out_of_patience(self) -> bool:
        """Return whether the loss on the stopping split has not fallen for too many epochs."""
        patience = self.settings.patience
        if patience is None or self.state["best"] is None:
            return False
        done: int = self.state["step"] // self.steps
        return bool(done - self.state["epoch"] >= patience)

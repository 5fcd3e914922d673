"""The steps of learning: craft, differentiate, descend; resumable at any of them."""

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
    """Coefficients on their way: all that changes the result, and where they stand.

    Args:
        net: the network of the ingredients; it is not changed.
        ingredients: the ingredients.
        data: examples to learn from.
        objective: what to minimise.
        settings: how.
        augment: changes images before they are attacked.
        stop_on: examples on which the best epoch is chosen; None takes the last.
        seed: for the start, order, augmentation, attacks and dropout.
        device: where to learn.
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
        how: dict[str, Any] = {"by": settings.by, "buffers": settings.buffers}
        how |= {
            "base": settings.base,
            "device": device,
            "statistics": settings.batch_norm == "eval",
        }
        kept = stacks.plan(ingredients, place=settings.place, store=settings.store, device=device)
        self.soup = LearnedSoup(net, ingredients, **how, place=kept.place, store=kept.store)
        self.first = starts.start(
            settings.init, ingredients, self.soup.groups, stream("start", seed)
        )
        self.logits = self.first.clone().to(device).requires_grad_()
        self.optimiser = torch.optim.SGD([self.logits], lr=settings.lr)
        classifier = self.soup.classifier(self.soup.held(self.logits.softmax(1)))
        probe(cast(classifier, settings.precision, self.device), data, self.device)
        self.steps = -(-len(data) // settings.batch_size)
        self.epochs = settings.epochs or usual_epochs(len(ingredients))
        self.best = self.logits.detach().clone()
        self.at: dict[str, Any] = {"step": 0, "loss": 0.0, "seen": 0, "best": None, "epoch": 0}

    def learn(self, folder: run_folder.RunFolder | None, progress: Progress) -> Recipe:
        """Take all steps that are left, and return the recipe."""
        history = folder.journal(HISTORY) if folder else None
        snapshot = Snapshot(folder.file(STATE), seconds=20) if folder else None
        if snapshot and (kept := snapshot.load()):
            with snapshot.restoring():
                self.logits.data.copy_(kept[0]["logits"])
                self.best.copy_(kept[0]["best"])
                self.at = {key: kept[1][key] for key in self.at}
        while self.at["step"] < self.epochs * self.steps and not self._waited_enough():
            epoch, step = divmod(self.at["step"], self.steps)
            indices = order(len(self.data), self.seed, epoch)
            self._step(indices.split(self.settings.batch_size)[step])
            ended = step + 1 == self.steps
            progress("steps", self.at["step"], self.epochs * self.steps, self._note())
            if ended:
                record = self._ended(epoch)
                if history and len(history.records) == epoch:
                    history.append(record)
            if snapshot and (ended or snapshot.due()):
                snapshot.save({"logits": self.logits, "best": self.best}, self.at)
        return self.soup.recipe(self.best if self.stop_on else self.logits)

    def _step(self, indices: Tensor) -> None:
        place = (self.seed, self.at["step"])
        x, y = self.data.batch(indices)
        if self.augment:
            x = self.augment(x, stream("augment", *place))
        x, y = x.to(self.device), y.to(self.device)
        alpha = self.logits.softmax(1)
        held = self.soup.held(alpha)
        x_adv = self.objective.craft(self._cast(held), x, y, generator=stream("attack", *place))
        active = draw_active(len(alpha), self.settings.dropout, stream("dropout", *place))
        leaves = self.soup.leaves(active, held)
        moving = self._cast(self.soup.placed(leaves, held))
        with self._norms():
            loss = self.objective.loss(moving, x, x_adv, y)
        self._descend(loss, alpha, leaves, active, held, len(y))

    def _cast(self, theta: dict[str, Tensor]) -> Classifier:
        return cast(self.soup.classifier(theta), self.settings.precision, self.device)

    @contextlib.contextmanager
    def _norms(self) -> Iterator[None]:
        """Let batch norms take the statistics that the settings say, and keep none."""
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
        held: dict[str, Tensor],
        seen: int,
    ) -> None:
        """Take a step down *loss*, whose gradient comes to the logits by way of θ and α."""
        step, settings = self.at["step"], self.settings
        if not torch.isfinite(loss):
            fix = "the last good state is kept; try a lower --lr"
            raise NumericsError("the loss is not finite", where=f"step {step + 1}", fix=fix)
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        into_alpha = self.soup.gradient(dict(zip(leaves, found, strict=True)), active, held)
        if settings.rescale:
            into_alpha = into_alpha / (1 - settings.dropout)
        self.logits.grad = torch.autograd.grad(alpha, self.logits, into_alpha.to(alpha))[0]
        lr = cosine(settings.lr, step, self.epochs * self.steps)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.at["step"] = step + 1
        self.at["loss"] += loss.item() * seen
        self.at["seen"] += seen

    def _note(self) -> str:
        return f"loss {self.at['loss'] / self.at['seen']:.4f}" if self.at["seen"] else ""

    def _ended(self, epoch: int) -> dict[str, Any]:
        """Return the record of *epoch*, and begin the next."""
        alpha = self.logits.detach().cpu().double().softmax(1)
        entropy = -(alpha * alpha.clamp(min=1e-30).log()).sum(1).mean()
        record = {
            "epoch": epoch + 1,
            "loss": self.at["loss"] / self.at["seen"],
            "entropy": entropy.item(),
            "moved": (alpha - self.first.double().softmax(1)).abs().sum(1).mean().item() / 2,
            "weights": [round(w, 6) for w in alpha.mean(0).tolist()],
        }
        self.at |= {"loss": 0.0, "seen": 0}
        if self.stop_on is not None:
            record["val"] = self.loss_on(self.stop_on)
            if self.at["best"] is None or record["val"] < self.at["best"]:
                self.best.copy_(self.logits.detach())
                self.at |= {"best": record["val"], "epoch": epoch + 1}
        return record

    def loss_on(self, examples: Examples) -> float:
        """Return the mean loss of the soup on *examples*, crafted alike in every epoch."""
        theta = self._cast(self.soup.held(self.logits.softmax(1)))
        total = 0.0
        for indices in torch.arange(len(examples)).split(self.settings.batch_size):
            x, y = (t.to(self.device) for t in examples.batch(indices))
            noise = stream("stop", self.seed, int(indices[0]))
            x_adv = self.objective.craft(theta, x, y, generator=noise)
            with torch.no_grad():
                total += float(self.objective.loss(theta, x, x_adv, y)) * len(y)
        return total / len(examples)

    def _waited_enough(self) -> bool:
        done = self.at["step"] // self.steps
        patience = self.settings.patience
        waits = self.stop_on is not None and patience is not None and self.at["best"] is not None
        return waits and done - self.at["epoch"] >= (patience or 0)

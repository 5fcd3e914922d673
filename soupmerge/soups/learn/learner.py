"""The steps of learning: craft, differentiate, descend; resumable after each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.asking import answering, probe
from soupmerge.binding import cast
from soupmerge.errors import NumericsError
from soupmerge.schedule import cosine, order, stream
from soupmerge.soups.learn import preferences, stacks
from soupmerge.soups.learn.batch_norms import statistics_of_batch
from soupmerge.soups.learn.convergence import Convergence, described
from soupmerge.soups.learn.optimisers import Coefficients
from soupmerge.soups.learn.settings import Settings
from soupmerge.soups.learn.soup import LearnedSoup, draw_active
from soupmerge.soups.learn.starts import BEST, corner_starts
from soupmerge.storage import run_folder
from soupmerge.storage.names import HISTORY, STATE
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import Augment, Classifier, Examples, Objective, Progress, expect
from soupmerge.weights.ingredients import Ingredients

PROBED = 512
"""Images on which ingredients are compared, for the start and the ideal losses."""


class Learner:
    """Coefficients in training: everything that affects the result, and the current state.

    With one objective, the coefficients of one soup are learned. With several, they are a function
    of the preference between these, which is drawn anew for each step.

    Args:
        net: the network of the ingredients; it is not changed.
        ingredients: the ingredients.
        data: examples to learn from.
        objectives: name → loss to minimise, and how to craft images for it.
        settings: groups, length, learning rate and so on.
        augment: changes images before they are attacked.
        stop_on: examples on which the best epoch is chosen; None takes the last epoch.
        seed: seed for the start, order, preferences, augmentation, attacks and dropout.
        device: device of torch.
    """

    def __init__(
        self,
        net: nn.Module,
        ingredients: Ingredients,
        data: Examples,
        objectives: Mapping[str, Objective],
        settings: Settings,
        *,
        augment: Augment | None = None,
        stop_on: Examples | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.steps = settings.steps_per_epoch(len(data))
        self.epochs = settings.epochs_for(len(ingredients), len(data), len(objectives))
        settings = replace(settings, epochs=self.epochs)
        self.data, self.settings, self.augment = data, settings, augment
        self.objectives = dict(objectives)
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
        self.k, self.groups = len(ingredients), len(self.soup.groups)
        uniform = torch.full((self.groups, self.k), 1 / self.k, device=self.device)
        probe(self._cast(self.soup.mix(uniform)), data, self.device)
        losses = self._ingredient_losses()
        self.ideal = losses.amin(1)
        self.start = corner_starts(settings.init, ingredients, self.soup.groups, seed, losses)
        self.coefficients = Coefficients(
            settings.family, self.start, settings.optimiser, self.device
        )
        affine = self.coefficients.family.affine
        self.convergence = Convergence([*objectives], self.groups, self.k, on_simplex=not affine)
        self.best = {n: p.detach().clone() for n, p in self.coefficients.parameters.items()}
        self.state: dict[str, Any] = {"step": 0, "best": None, "epoch": 0}

    def _ingredient_losses(self) -> Tensor:
        """Return the loss ``(T, K)`` of every objective for every ingredient, on a few images.

        It is 0 where nothing depends on it: neither the start nor the scalarisation.
        """
        settings, count = self.settings, len(self.objectives)
        if not (settings.init.startswith(BEST) or settings.scalarisation == "tchebycheff"):
            return torch.zeros(count, self.k, device=self.device)
        rows = torch.eye(self.k, device=self.device)
        losses = [
            [self.mean_loss(row.expand(self.groups, -1), o, self.data, PROBED) for row in rows]
            for o in self.objectives.values()
        ]
        return torch.tensor(losses, device=self.device)

    def learn(self, folder: run_folder.RunFolder | None, progress: Progress) -> Mapping[str, Any]:
        """Take all remaining steps, and return the parameters as arrays in float32."""
        history = folder.journal(HISTORY) if folder else None
        snapshot = Snapshot(folder.file(STATE), seconds=20) if folder else None
        if snapshot and (saved := snapshot.load()):
            with snapshot.restoring():
                self._restore(*saved)
        expected = None
        while self.state["step"] < self.epochs * self.steps and not self._out_of_patience():
            epoch, step = divmod(self.state["step"], self.steps)
            visited, size = order(len(self.data), self.seed, epoch), self.settings.batch_size
            if expected != epoch:
                expect(self.data, visited[step * size :], (self.seed, epoch))
                expected = epoch
            self.step(visited[step * size :][:size])
            ends_epoch = step + 1 == self.steps
            progress("steps", self.state["step"], self.epochs * self.steps, self.convergence.note())
            if ends_epoch:
                record = self.end_epoch(epoch)
                if history and len(history.records) == epoch:
                    history.append(record)
            if snapshot and (ends_epoch or snapshot.due()):
                snapshot.save(self._tensors(), self.state)
        if self.stop_on is not None:
            return {name: best.cpu().numpy() for name, best in self.best.items()}
        return self.coefficients.arrays()

    def _tensors(self) -> dict[str, Tensor]:
        best = {f"best.{name}": tensor for name, tensor in self.best.items()}
        return {**self.coefficients.state(), **self.convergence.state(), **best}

    def _restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.coefficients.load(tensors)
        self.convergence.load(tensors)
        for name, tensor in self.best.items():
            tensor.copy_(tensors[f"best.{name}"])
        self.state = {key: state[key] for key in self.state}

    def alpha(self, at: Sequence[float]) -> Tensor:
        """Return the coefficients ``(G, K)`` at the preference *at* ``(T,)``, without a graph."""
        with torch.no_grad():
            return self.coefficients.alpha(self.coefficients.rows(at))

    def step(self, indices: Tensor) -> None:
        """Take a step on the examples at *indices*; each of its preferences has a part of them."""
        parts = indices.tensor_split(min(self.settings.preferences, len(indices)))
        shares = [len(part) / len(indices) for part in parts]
        found = map(self._gradient, range(len(parts)), parts, shares)
        self._descend(*map(torch.cat, zip(*found, strict=True)))

    def _gradient(self, part: int, indices: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, α and *share* · ∂L/∂α ``(G, K)`` at the preference of a part of a step."""
        key = (self.seed, self.state["step"], *([part] if part else []))
        x, y = self.data.batch(indices)
        if self.augment:
            x = self.augment(x, stream("augment", *key))
        x, y = x.to(self.device, non_blocking=True), y.to(self.device)
        count = len(self.objectives)
        at = preferences.draw(count, self.settings.corners, stream("preference", *key))
        rows = self.coefficients.rows(at)
        alpha = self.coefficients.alpha(rows)
        mixed = self.soup.mix(alpha)
        active = draw_active(self.groups, self.settings.dropout, stream("dropout", *key))
        leaves = self.soup.leaves(active, mixed)
        losses = self._losses(at, x, y, leaves, mixed, stream("attack", *key))
        total = self._total(losses, at, len(y))
        grads = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        gradient = self.soup.gradient(dict(zip(leaves, grads, strict=True)), active, mixed)
        self._require_finite(gradient, "gradient")
        self.convergence.add_gradient(at, alpha.detach(), gradient, active)
        return rows, alpha, share * gradient

    def _losses(
        self,
        at: Sequence[float],
        x: Tensor,
        y: Tensor,
        leaves: dict[str, Tensor],
        mixed: dict[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """Return the losses ``(T,)`` of the objectives, 0 for those that do not count *at* all."""
        attacked = self._asked(mixed, self.data)
        learned = self._asked(self.soup.substitute(leaves, mixed), self.data)
        losses = [torch.zeros((), device=self.device)] * len(at)
        in_batch = self.settings.batch_norm == "batch"
        for t in preferences.used(at):
            objective = [*self.objectives.values()][t]
            x_adv = objective.craft(attacked, x, y, generator=generator)
            with statistics_of_batch(self.soup.net) if in_batch else nullcontext():
                losses[t] = objective.loss(learned, x, x_adv, y)
        return torch.stack([loss.float() for loss in losses])

    def _total(self, losses: Tensor, at: Sequence[float], images: int) -> Tensor:
        """Return the loss to minimise, after adding *losses* to those of the epoch."""
        scalarise = preferences.scalarisation(self.settings.scalarisation)
        total = scalarise(losses, torch.tensor(at, device=self.device), self.ideal)
        self._require_finite(total, "loss")
        counted = preferences.used(at)
        values = [loss if t in counted else math.nan for t, loss in enumerate(losses.tolist())]
        self.convergence.add_losses(values, total.item(), images)
        return total

    def _require_finite(self, numbers: Tensor, what: str) -> None:
        if not bool(torch.isfinite(numbers).all()):
            fix = "the last good state is kept; try a lower --lr"
            where = f"step {self.state['step'] + 1}"
            raise NumericsError(f"the {what} is not finite", where=where, fix=fix)

    def _descend(self, rows: Tensor, alpha: Tensor, gradient: Tensor) -> None:
        """Take a step down *gradient*, by the chain rule through α.

        All are ``(n · G, K)`` for n preferences, one below the other.
        """
        settings, step = self.settings, self.state["step"]
        if settings.rescale:
            gradient = gradient / (1 - settings.dropout)
        lr = cosine(settings.rate, step, self.epochs * self.steps)
        self.coefficients.step(rows, alpha, gradient.to(alpha), lr)
        if self.coefficients.family.affine:
            # Rows and variances change linearly between the corners: none is negative there either.
            self.coefficients.replace_corners(self.soup.with_positive_variances)
        self.state["step"] = step + 1

    def _asked(self, theta: dict[str, Tensor], examples: Examples) -> Classifier:
        return answering(self._cast(theta), examples)

    def _cast(self, theta: dict[str, Tensor]) -> Classifier:
        return cast(self.soup.classifier(theta), self.settings.precision, self.device)

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Return the record of *epoch*, counted from 0, and forget its sums for the next."""
        count = len(self.objectives)
        middle = self.alpha([1 / count] * count)
        corners = torch.stack([self.alpha(at) for at in torch.eye(count).tolist()])
        about = described(middle, corners, self.start)
        record = {"epoch": epoch + 1, **self.convergence.record(), **about}
        self.convergence.reset()
        if self.stop_on is not None:
            record["val"] = self.loss_on(self.stop_on)
            if self.state["best"] is None or record["val"] < self.state["best"]:
                for name, parameter in self.coefficients.parameters.items():
                    self.best[name].copy_(parameter.detach())
                self.state |= {"best": record["val"], "epoch": epoch + 1}
        return record

    def loss_on(self, examples: Examples) -> float:
        """Return the mean loss of the soup on *examples*, with the same noise in every epoch.

        With several objectives, it is the mean over these of the loss of the soup at each corner.
        """
        corners = torch.eye(len(self.objectives)).tolist()
        losses = [
            self.mean_loss(self.alpha(at), objective, examples)
            for at, objective in zip(corners, self.objectives.values(), strict=True)
        ]
        return sum(losses) / len(losses)

    def mean_loss(
        self, alpha: Tensor, objective: Objective, examples: Examples, most: int | None = None
    ) -> float:
        """Return the mean of *objective* for the soup at *alpha* ``(G, K)``.

        Args:
            examples: the images; with *most*, only the first so many of them.
        """
        classifier, total = self._asked(self.soup.mix(alpha), examples), 0.0
        n = min(len(examples), most or len(examples))
        expect(examples, torch.arange(n))
        for indices in torch.arange(n).split(self.settings.batch_size):
            x, y = (t.to(self.device) for t in examples.batch(indices))
            noise = stream("stop", self.seed, int(indices[0]))
            x_adv = objective.craft(classifier, x, y, generator=noise)
            with torch.no_grad():
                total += float(objective.loss(classifier, x, x_adv, y)) * len(y)
        return total / n

    def _out_of_patience(self) -> bool:
        """Return whether the loss on the stopping split has not fallen for too many epochs."""
        patience = self.settings.patience
        if patience is None or self.state["best"] is None:
            return False
        done: int = self.state["step"] // self.steps
        return bool(done - self.state["epoch"] >= patience)

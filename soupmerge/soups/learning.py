"""Training the coefficients of a soup: adversarially, cleanly, or both."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import bind, cast, probe, ref_of
from soupmerge.errors import NumericsError, UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.schedule import cosine, order, stream
from soupmerge.soups.comparing import images_table
from soupmerge.soups.grid import write_choice
from soupmerge.soups.learned import LearnedSoup, draw_live
from soupmerge.soups.trials import Trial
from soupmerge.storage import commit, run
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import Augment, Examples, Objective, Progress, quiet
from soupmerge.weights import mixing
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

DECISIONS = {
    "batch norm": "evaluation mode, with the soup's own statistics, to craft and to step",
    "statistics": "follow the coefficients (policy average), constant in the gradient",
    "attack": "on the mixed weights held fixed; then one differentiated pass",
    "xavier": "a matrix (1, K) for each group",
    "detach dropout": "at least one live group, no rescaling",
    "optimiser": "SGD without momentum or weight decay",
}
"""What the paper leaves open, and how it is settled here; goes into every manifest."""


@dataclass(frozen=True)
class Settings:
    """How coefficients are learned; the defaults are the paper's (Huang 2023, sections 3 and 4).

    Attributes:
        by: grouping: ``model``, ``module`` or ``tensor``.
        epochs: passes over the data: 30 for up to 3 ingredients, 50 for 5.
        lr: learning rate at the start, falling to 0 as a cosine.
        dropout: probability with which a group is detached in a step.
        init: where the logits start: ``xavier`` or ``uniform``.
        batch_size: images a step.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters (and ``base`` statistics) come from.
        precision: ``fp32``, or ``bf16`` autocast.
    """

    by: str = "tensor"
    epochs: int = 30
    lr: float = 10.0
    dropout: float = 0.8
    init: str = "xavier"
    batch_size: int = 128
    buffers: str = "average"
    base: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < 1e9:
            what = "epochs, batch size and learning rate must be positive and finite"
            raise UsageError(what, where="learn", fix="change what is not")
        if not 0 <= self.dropout <= 1:
            what = f"{self.dropout} is not a probability"
            raise UsageError(what, where="dropout", fix="give a number from 0 to 1")


def learn(
    net: nn.Module,
    pots: Ingredients,
    data: Examples,
    objective: Objective,
    *,
    epochs: int | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    augment: Augment | None = None,
    benchmark: Benchmark | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> Trial:
    """Learn the coefficients of a soup by gradient descent, the ingredients held fixed.

    minimise over logits a:  E loss(θ(W); x_adv, y),  W[g] = softmax(a[g]),  x_adv from *objective*.

    Args:
        net: the network of the ingredients.
        pots: K ≥ 2 ingredients; all are held in memory.
        data: examples to learn from, which must not judge the soup.
        objective: what to minimise, such as ``against(Linf(8 / 255))``.
        epochs: replaces that of *settings*.
        settings: groups, length, learning rate, detach dropout, start, buffers.
        augment: changes images before they are attacked; None leaves them.
        benchmark: judges the soup at the end.
        seed: for the start, order, augmentation, attacks and dropout.
        device: where to learn.
        out: run folder; journals epochs, resumes bit for bit, and receives recipe and soup.
        force: start over if *out* holds another run.
        progress: is told of steps.

    Returns:
        The learned recipe, judged if there is a *benchmark*.

    Raises:
        UsageError: K < 2, a setting cannot be meant, or *out* holds a run with other settings.
        NumericsError: the loss is not finite; the last good state is kept in *out*.
    """
    if len(pots) < 2:
        what = f"learning needs two or more ingredients, not {len(pots)}"
        raise UsageError(what, where="REF", fix="name more checkpoints")
    pots.require_finite()
    settings = settings if epochs is None else Settings(**{**asdict(settings), "epochs": epochs})
    learner = _Learner(net, pots, data, objective, settings, augment, seed, torch.device(device))
    judge = None if benchmark is None else benchmark.describe()
    with contextlib.ExitStack() as stack:
        folder = None
        if out is not None:
            manifest = {**learner.manifest(), "benchmark": judge}
            run_folder = run.opened(out, manifest, inputs=pots.files, force=force)
            folder = stack.enter_context(run_folder)
            commit.write_text(folder.file("images.csv"), images_table(data), force=True)
        trial = learner.known_trial(folder, judge)
        if trial is None:
            recipe = learner.learn(folder, progress)
            report = None
            if benchmark is not None:
                soup = bind(net, mixing.mix(pots, recipe), device=device)
                report = benchmark(soup, progress=progress)
            trial = Trial(recipe, report)
        if folder:
            learner.finish(folder, trial)
    return trial


class _Learner:
    def __init__(
        self,
        net: nn.Module,
        pots: Ingredients,
        data: Examples,
        objective: Objective,
        settings: Settings,
        augment: Augment | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.data, self.objective, self.settings, self.augment = data, objective, settings, augment
        self.seed, self.device, self.model_ref = seed, device, ref_of(net)
        own = copy.deepcopy(net).eval().requires_grad_(False)
        own = own.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        how = {"by": settings.by, "buffers": settings.buffers, "base": settings.base}
        self.soup = LearnedSoup(own, pots, **how, device=device)  # type: ignore[arg-type]
        start = self.soup.start(settings.init, stream("start", seed))
        self.logits = start.to(device).requires_grad_()
        self.optimiser = torch.optim.SGD([self.logits], lr=settings.lr)
        classifier = self.soup.classifier(self.soup.weights(start.to(device).softmax(1)))
        probe(cast(classifier, settings.precision, device), data, device)
        self.steps = -(-len(data) // settings.batch_size)
        self.at: dict[str, Any] = {"step": 0, "loss": 0.0, "seen": 0}

    def manifest(self) -> dict[str, Any]:
        return {
            "command": "learn",
            "model": self.model_ref,
            "inputs": self.soup.pots.fingerprint(),
            "data": self.data.fingerprint(),
            "objective": self.objective.describe(),
            "settings": asdict(self.settings),
            "augment": getattr(self.augment, "__name__", None) if self.augment else None,
            "seed": self.seed,
            "device": self.device.type,
            "decisions": DECISIONS,
        }

    def known_trial(self, folder: run.RunFolder | None, judge: Any) -> Trial | None:
        """Return the trial that *folder* holds, if its learning was finished."""
        records = folder.journal("trials").records if folder else []
        if not records:
            return None
        recipe = Recipe.from_json(records[0].get("recipe"), where="trials.jsonl")
        return Trial.from_record(records[0], recipe, judge)

    def finish(self, folder: run.RunFolder, trial: Trial) -> None:
        """Write recipe, soup and trial, and forget the state; may be done twice."""
        write_choice(folder, self.soup.pots, trial.recipe, self.model_ref)
        journal = folder.journal("trials")
        if not journal.records:
            journal.append({**trial.to_record(), "depth": self.soup.by_depth()})
        Snapshot(folder.file("state.safetensors")).clear()

    def learn(self, folder: run.RunFolder | None, progress: Progress) -> Recipe:
        """Take all steps that are left, and return the recipe."""
        history = folder.journal("history") if folder else None
        snapshot = Snapshot(folder.file("state.safetensors"), seconds=20) if folder else None
        if snapshot and (kept := snapshot.load()):
            with snapshot.restoring():
                self.logits.data.copy_(kept[0]["logits"])
                self.at = {key: kept[1][key] for key in self.at}
        total = self.settings.epochs * self.steps
        while self.at["step"] < total:
            epoch, step = divmod(self.at["step"], self.steps)
            indices = order(len(self.data), self.seed, epoch)
            self._step(indices.split(self.settings.batch_size)[step], total)
            ended = step + 1 == self.steps
            progress("steps", self.at["step"], total, self._note())
            if ended:
                if history and len(history.records) == epoch:
                    history.append(self._record(epoch))
                self.at |= {"loss": 0.0, "seen": 0}
            if snapshot and (ended or snapshot.due()):
                snapshot.save({"logits": self.logits}, self.at)
        return self.soup.recipe(self.logits)

    def _step(self, indices: Tensor, total: int) -> None:
        place = (self.seed, self.at["step"])
        x, y = self.data.batch(indices)
        if self.augment:
            x = self.augment(x, stream("augment", *place))
        x, y = x.to(self.device), y.to(self.device)
        alpha = self.logits.softmax(1)
        with torch.no_grad():
            held = self.soup.weights(alpha)
        still = cast(self.soup.classifier(held), self.settings.precision, self.device)
        x_adv = self.objective.craft(still, x, y, generator=stream("attack", *place))
        live = draw_live(len(alpha), self.settings.dropout, stream("dropout", *place))
        leaves = self.soup.leaves(live, held)
        moving = self.soup.classifier(self.soup.placed(leaves, held))
        loss = self.objective.loss(cast(moving, self.settings.precision, self.device), x, x_adv, y)
        self._descend(loss, alpha, leaves, total, len(y))

    def _descend(
        self, loss: Tensor, alpha: Tensor, leaves: dict[str, Tensor], total: int, seen: int
    ) -> None:
        """Take a step down *loss*, whose gradient comes to the logits by way of θ and α."""
        step = self.at["step"]
        if not torch.isfinite(loss):
            fix = "the last good state is kept; try a lower --lr"
            raise NumericsError("the loss is not finite", where=f"step {step + 1}", fix=fix)
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        into_alpha = self.soup.gradient(dict(zip(leaves, found, strict=True)))
        self.logits.grad = torch.autograd.grad(alpha, self.logits, into_alpha.to(alpha))[0]
        self.optimiser.param_groups[0]["lr"] = cosine(self.settings.lr, step, total)
        self.optimiser.step()
        self.at["step"] = step + 1
        self.at["loss"] += loss.item() * seen
        self.at["seen"] += seen

    def _note(self) -> str:
        return f"loss {self.at['loss'] / self.at['seen']:.4f}" if self.at["seen"] else ""

    def _record(self, epoch: int) -> dict[str, Any]:
        alpha = self.logits.detach().cpu().double().softmax(1)
        entropy = -(alpha * alpha.clamp(min=1e-30).log()).sum(1).mean()
        return {
            "epoch": epoch + 1,
            "loss": self.at["loss"] / self.at["seen"],
            "entropy": entropy.item(),
            "weights": [round(w, 6) for w in alpha.mean(0).tolist()],
        }

"""One classifier before the judge: who holds against an attack, whatever the attack says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from soupmerge.binding import cast, fused
from soupmerge.errors import InputError
from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.robustness.engine import Finished
from soupmerge.robustness.waiting import Batch
from soupmerge.schedule import stream
from soupmerge.types import Attack, Classifier, Examples, Progress

LEAST, MOST, PART = 16, 64, 10
"""Of the images that hold in bfloat16, one in *PART* is attacked again in float32, to see how many
would fall; no less than *LEAST* and no more than *MOST*, as that costs as much as all else."""


class Ledger(Protocol):
    """Keeps verdicts as they are made, so that a killed evaluation repeats none."""

    def known(self, key: str) -> Mapping[int, bool]:
        """Return example → does it hold, as far as it was kept under *key*."""

    def add(self, key: str, verdicts: Mapping[int, bool]) -> None:
        """Keep *verdicts* under *key*."""


class NullLedger:
    """A ledger that keeps nothing."""

    def known(self, key: str) -> Mapping[int, bool]:
        """Return nothing."""
        return {}

    def add(self, key: str, verdicts: Mapping[int, bool]) -> None:
        """Keep nothing."""


class Meter:
    """A classifier that counts what it is asked, image by image."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.counts = {"gradient_evaluations": 0, "forward_evaluations": 0}
        parameters = iter(classifier.parameters() if isinstance(classifier, nn.Module) else ())
        self.device = next((p.device for p in parameters), torch.device("cpu"))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits, and count the images."""
        kind = "gradient" if torch.is_grad_enabled() and x.requires_grad else "forward"
        self.counts[f"{kind}_evaluations"] += len(x)
        return self.classifier(x)


@dataclass
class Judge:
    """Finds out which of *data* a classifier gets right, clean and under attack.

    Attributes:
        meter: the classifier.
        data: the examples.
        seed: of the attacks' starting points.
        width: images at a time.
        precision: what attacks compute in; verdicts are always in float32.
        ledger: keeps verdicts.
        progress: is told of images.
        fooling: images that fooled others before, which are tried first; None to try none.
        notes: what a reader of the numbers must know.
    """

    meter: Meter
    data: Examples
    seed: int
    width: int
    precision: str
    ledger: Ledger
    progress: Progress
    fooling: AdversarialCache | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def clean(self) -> Tensor:
        """Return ``(N,)`` bool: right on the image as it is."""
        known = dict(self.ledger.known("clean"))
        todo = torch.tensor([i for i in range(len(self.data)) if i not in known], dtype=torch.long)
        for indices in todo.split(self.width) if len(todo) else ():
            found = right(self.meter, *self.load(indices)).tolist()
            known |= dict(zip(indices.tolist(), found, strict=True))
            self.ledger.add("clean", {i: known[i] for i in indices.tolist()})
            self.progress("clean", len(known), len(self.data))
        return self._flags(known)

    def holding(self, attack: Attack, todo: Tensor) -> Tensor:
        """Return ``(N,)`` bool: which of the examples *todo* hold against all of *attack*."""
        stages: Sequence[Attack] = getattr(attack, "stages", (attack,))
        todo = self._transferred(attack, todo)
        for number, stage in enumerate(stages):
            name = str(attack.threat)
            name += f" {stage.describe()['attack']}" if len(stages) > 1 else ""
            found = self._stage(f"{attack.threat} {number}", name, stage, todo.tolist())
            todo = torch.tensor([i for i in todo.tolist() if found[i]], dtype=torch.long)
        return self._flags(dict.fromkeys(todo.tolist(), True))

    def _transferred(self, attack: Attack, todo: Tensor) -> Tensor:
        """Return which of the examples *todo* hold against what fooled others before."""
        if self.fooling is None:
            return todo
        threat, ids = str(attack.threat), [self.data.ids[i] for i in todo.tolist()]
        holds = torch.ones(len(todo), dtype=torch.bool)
        places = torch.tensor(self.fooling.known(threat, ids), dtype=torch.long)
        for some in places.split(self.width) if len(places) else ():
            x_adv = self.fooling.images(threat, [ids[i] for i in some.tolist()])
            device = self.meter.device
            left = Finished(todo[some].to(device), x_adv.to(device), torch.ones_like(some).bool())
            holds[some] = self._confirm(attack, left).cpu()
        return todo[holds]

    def _stage(self, key: str, name: str, attack: Attack, todo: list[int]) -> dict[int, bool]:
        if self.precision == "fp32" or not hasattr(attack, "stream"):
            return {i: not fell for i, (fell, _) in self._run(key, name, attack, todo).items()}
        cheap = self._run(f"{key} {self.precision}", name, attack, todo, self.precision)
        holds = {i: not fell for i, (fell, _) in cheap.items()}
        # What it took for fooled, and float32 does not, is attacked in float32.
        disputed = [i for i in todo if holds[i] and cheap[i][1]]
        draw = torch.randperm(len(self.data), generator=stream("recheck", self.seed)).tolist()
        survivors = [i for i in draw if holds.get(i) and not cheap[i][1]]
        sample = survivors[: min(MOST, max(LEAST, len(survivors) // PART))]
        again = self._run(key, f"{name} again", attack, sorted(disputed + sample))
        holds |= {i: not fell for i, (fell, _) in again.items()}
        fell = sum(not holds[i] for i in sample)
        self.notes.setdefault("float32", {})[name] = {
            "precision": self.precision,
            "survivors": len(survivors),
            "rechecked": len(sample),
            "fell": fell,
        }
        return holds

    def _run(
        self, key: str, name: str, attack: Attack, todo: list[int], precision: str = "fp32"
    ) -> dict[int, tuple[bool, bool]]:
        """Return example → did it fall, and did the attack say so."""
        told = self.ledger.known(key)
        # What is to fool others is not in the ledger: it is found again, which takes few steps.
        told = {i: h for i, h in told.items() if h or self.fooling is None}
        known = {i: (not told[i], not told[i]) for i in todo if i in told}
        claims = self.ledger.known(f"{key} claims")
        known |= {i: (known[i][0], True) for i in known if i in claims}
        classifier: Classifier = self.meter
        if precision != "fp32":
            classifier = cast(self._proposer(), precision, self.meter.device)
        for left in self._proposals(classifier, attack, todo, set(known)):
            holds = self._confirm(attack, left).tolist()
            places, said = left.place.tolist(), left.fooled.tolist()
            known |= {i: (not h, s) for i, h, s in zip(places, holds, said, strict=True)}
            self.ledger.add(key, dict(zip(places, holds, strict=True)))
            odd = {i: True for i, h, s in zip(places, holds, said, strict=True) if h and s}
            if odd:
                self.ledger.add(f"{key} claims", odd)
            self.progress(name, len(known), len(todo))
        return known

    def _proposer(self) -> Meter:
        """Return the classifier as fast as it can be had: what it says is asked again anyway."""
        net = self.meter.classifier
        if isinstance(net, nn.Module):
            x, _ = self.load(torch.arange(min(4, len(self.data))))
            net = fused(net, x)
        proposer = Meter(net)
        proposer.device, proposer.counts = self.meter.device, self.meter.counts
        return proposer

    def _proposals(
        self, classifier: Classifier, attack: Attack, todo: list[int], known: set[int]
    ) -> Iterator[Finished]:
        """Yield adversarial images, some at a time."""
        if not hasattr(attack, "stream"):
            yield from self._by_batches(classifier, attack, todo, known)
            return
        queue = [i for i in todo if i not in known]

        def feed(count: int) -> Batch | None:
            nonlocal queue
            some, queue = queue[:count], queue[count:]
            return self._batch(attack, some) if some else None

        waiting: list[Finished] = []
        for left in attack.stream(classifier, feed, width=self.width):
            waiting.append(left)
            if sum(len(part.place) for part in waiting) >= self.width // 4:
                yield _together(waiting)
                waiting = []
        if waiting:
            yield _together(waiting)

    def _by_batches(
        self, classifier: Classifier, attack: Attack, todo: list[int], known: set[int]
    ) -> Iterator[Finished]:
        # A foreign attack may draw for a batch as a whole: batches are those of an unbroken run.
        for at in range(0, len(todo), self.width):
            some = todo[at : at + self.width]
            if not known.issuperset(some):
                batch = self._batch(attack, some)
                x_adv = attack(classifier, batch.x, batch.y, generator=batch.generator)
                if x_adv.shape != batch.x.shape:
                    shapes = f"{tuple(x_adv.shape)}, not {tuple(batch.x.shape)}"
                    raise InputError(f"gave images of shape {shapes}", where=attack)
                none = torch.zeros(len(some), dtype=torch.bool)
                yield Finished(batch.place, x_adv, none)

    def _batch(self, attack: Attack, some: list[int]) -> Batch:
        indices = torch.tensor(some, dtype=torch.long)
        generators = [stream(self.seed, attack, self.data.ids[i]) for i in some]
        return Batch(indices.to(self.meter.device), *self.load(indices), generators)

    def load(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels on the classifier's device."""
        x, y = self.data.batch(indices)
        return x.to(self.meter.device), y.to(self.meter.device)

    def _confirm(self, attack: Attack, left: Finished) -> Tensor:
        """Return which images hold, judged here, in float32, inside the threat."""
        x, y = self.load(left.place.cpu())
        x_adv = left.x_adv.detach().float()
        outside = ~attack.threat.contains(x_adv, x)
        if bool(outside.any()):
            what = f"left its threat model {attack.threat} on {int(outside.sum())} of {len(x)}"
            raise InputError(f"{what} images", where=attack, fix="its verdicts cannot be used")
        x_adv = attack.threat.project(x_adv, x)
        holds = right(self.meter, x_adv, y)
        if self.fooling is not None:
            fell = (~holds).cpu()
            ids = [self.data.ids[i] for i in left.place.cpu()[fell].tolist()]
            self.fooling.keep(str(attack.threat), ids, x_adv[~holds])
        return holds

    def _flags(self, holds: Mapping[int, bool]) -> Tensor:
        flags = torch.zeros(len(self.data), dtype=torch.bool)
        flags[[i for i, held in holds.items() if held]] = True
        return flags


def right(classifier: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Return ``(B,)`` bool: right, with finite logits. What is not finite is never right."""
    try:
        with torch.no_grad():
            logits = classifier(x)
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise
        torch.cuda.empty_cache()
        halves = zip(x.chunk(2), y.chunk(2), strict=True)
        return torch.cat([right(classifier, *half) for half in halves])
    return (logits.argmax(1) == y) & torch.isfinite(logits).all(1)


def _together(parts: Sequence[Finished]) -> Finished:
    return Finished(*(torch.cat(column) for column in zip(*parts, strict=True)))

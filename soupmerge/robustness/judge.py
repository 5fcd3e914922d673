"""The judge of one classifier: which images survive an attack, whatever the attack claims."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from soupmerge.binding import cast, fused
from soupmerge.errors import InputError
from soupmerge.label_spaces.outputs import right_classes
from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.robustness.cascade import stages_of
from soupmerge.robustness.meter import Meter, answers_right
from soupmerge.schedule import stream
from soupmerge.types import (
    Attack,
    Batch,
    Classifier,
    Examples,
    Finished,
    Progress,
    StreamingAttack,
    expect,
)

LEAST_RECHECKED, MOST_RECHECKED, RECHECKED_PART = 16, 64, 10
"""Of the images that survive in bfloat16, one in `RECHECKED_PART` is attacked again in float32, to
estimate how many would be fooled; at least `LEAST_RECHECKED`, and at most `MOST_RECHECKED`, because
that can cost as much as everything else."""


class Ledger(Protocol):
    """Keeps verdicts as they are reached, so that a resumed evaluation repeats none."""

    def known(self, key: str) -> Mapping[int, bool]:
        """Return index of the example → whether it survived, for all verdicts under *key*."""

    def add(self, key: str, verdicts: Mapping[int, bool]) -> None:
        """Keep *verdicts* under *key*."""


class NullLedger:
    """A ledger that keeps nothing."""

    def known(self, key: str) -> Mapping[int, bool]:
        """Return no verdicts."""
        return {}

    def add(self, key: str, verdicts: Mapping[int, bool]) -> None:
        """Keep nothing."""


class _Verdict(NamedTuple):
    """Whether an image survived, in float32, and whether the attack claimed that it did not."""

    survived: bool
    claimed: bool


@dataclass
class Judge:
    """Finds out which examples a classifier gets right, without and under attack.

    Attributes:
        meter: the classifier.
        data: the examples.
        seed: seed of the attacks' starting points.
        width: how many images are attacked at a time.
        precision: the precision in which attacks run; verdicts are always reached in float32.
        ledger: keeps the verdicts.
        progress: callback for progress, in images; see `types.Progress`.
        cache: images that fooled other classifiers, which are tried first; None tries none.
        notes: what readers of the results must know.
    """

    meter: Meter
    data: Examples
    seed: int
    width: int
    precision: str
    ledger: Ledger
    progress: Progress
    cache: AdversarialCache | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def clean(self) -> Tensor:
        """Return ``(N,)`` bool: whether each image is classified correctly without attack."""
        verdicts = dict(self.ledger.known("clean"))
        todo = [i for i in range(len(self.data)) if i not in verdicts]
        expect(self.data, torch.tensor(todo, dtype=torch.long))
        for indices in _split(todo, self.width):
            x, y = self.load(indices)
            right = answers_right(self.meter, x, right_classes(self.data, indices, y)).tolist()
            new = dict(zip(indices.tolist(), right, strict=True))
            verdicts |= new
            self.ledger.add("clean", new)
            self.progress("clean", len(verdicts), len(self.data))
        return self._flags(i for i, right in verdicts.items() if right)

    def survivors(self, attack: Attack, todo: Tensor) -> Tensor:
        """Return ``(N,)`` bool: which of the examples *todo* survive all stages of *attack*."""
        stages = stages_of(attack)
        remaining = self._after_transfer(attack, todo.tolist())
        for number, stage in enumerate(stages):
            name = str(attack.threat)
            name += f" {stage.describe()['attack']}" if len(stages) > 1 else ""
            survives = self._stage(f"{attack.threat} {number}", name, stage, remaining)
            remaining = [i for i in remaining if survives[i]]
        return self._flags(remaining)

    def _after_transfer(self, attack: Attack, todo: list[int]) -> list[int]:
        """Return the examples of *todo* that survive the images that fooled other classifiers."""
        if self.cache is None:
            return todo
        threat, ids = str(attack.threat), [self.data.ids[i] for i in todo]
        fooled: set[int] = set()
        for places in _split(self.cache.known(threat, ids), self.width):
            indices = torch.tensor(todo)[places]
            x_adv = self.cache.images(threat, [ids[place] for place in places.tolist()])
            proposed = Finished(indices, x_adv, torch.ones_like(indices, dtype=torch.bool))
            survives = self._confirm(attack, Finished(*(t.to(self.meter.device) for t in proposed)))
            fooled |= set(indices[~survives.cpu()].tolist())
        return [i for i in todo if i not in fooled]

    def _stage(self, key: str, name: str, attack: Attack, todo: list[int]) -> dict[int, bool]:
        """Return example → whether it survives *attack*, for all of *todo*."""
        if self.precision == "fp32" or not isinstance(attack, StreamingAttack):
            verdicts = self._run(key, name, attack, todo)
            return {i: verdict.survived for i, verdict in verdicts.items()}
        cheap = self._run(f"{key} {self.precision}", name, attack, todo, self.precision)
        survives = {i: verdict.survived for i, verdict in cheap.items()}
        # Images that are fooled in the lower precision but not in float32 are attacked again.
        disputed = [i for i in todo if survives[i] and cheap[i].claimed]
        drawn = torch.randperm(len(self.data), generator=stream("recheck", self.seed)).tolist()
        undisputed = [i for i in drawn if survives.get(i) and not cheap[i].claimed]
        size = max(LEAST_RECHECKED, len(undisputed) // RECHECKED_PART)
        sample = undisputed[: min(MOST_RECHECKED, size)]
        again = self._run(key, f"{name} again", attack, sorted(disputed + sample))
        survives |= {i: verdict.survived for i, verdict in again.items()}
        self.notes.setdefault("float32", {})[name] = {
            "precision": self.precision,
            "survivors": len(undisputed),
            "rechecked": len(sample),
            "fell": sum(not survives[i] for i in sample),
        }
        return survives

    def _run(
        self, key: str, name: str, attack: Attack, todo: list[int], precision: str = "fp32"
    ) -> dict[int, _Verdict]:
        """Return example → verdict, for all of *todo*."""
        verdicts = self._known(key, todo)
        classifier: Classifier = self.meter
        if precision != "fp32":
            classifier = cast(self._fast_meter(), precision, self.meter.device)
        for proposed in self._proposals(classifier, attack, todo, set(verdicts)):
            survived = self._confirm(attack, proposed).tolist()
            pairs = map(_Verdict, survived, proposed.fooled.tolist())
            new = dict(zip(proposed.indices.tolist(), pairs, strict=True))
            verdicts |= new
            self.ledger.add(key, {i: verdict.survived for i, verdict in new.items()})
            disputed = {
                i: True for i, verdict in new.items() if verdict.survived and verdict.claimed
            }
            if disputed:
                self.ledger.add(f"{key} claims", disputed)
            self.progress(name, len(verdicts), len(todo))
        return verdicts

    def _known(self, key: str, todo: list[int]) -> dict[int, _Verdict]:
        """Return the verdicts of the ledger that need not be reached again."""
        survived, claims = self.ledger.known(key), self.ledger.known(f"{key} claims")
        # The ledger has no adversarial images; the cache needs them found again, in a few steps.
        usable = [i for i in todo if i in survived and (survived[i] or self.cache is None)]
        return {i: _Verdict(survived[i], not survived[i] or i in claims) for i in usable}

    def _fast_meter(self) -> Meter:
        """Return the classifier with fused layers; attacks that use it are confirmed anyway."""
        net = self.meter.classifier
        if isinstance(net, nn.Module):
            x, _ = self.load(torch.arange(min(4, len(self.data))))
            net = fused(net, x)
        meter = Meter(net, self.data)
        meter.device, meter.counts = self.meter.device, self.meter.counts
        return meter

    def _proposals(
        self, classifier: Classifier, attack: Attack, todo: list[int], known: set[int]
    ) -> Iterator[Finished]:
        """Yield adversarial images for the examples of *todo* that are not *known*, in parts."""
        if not isinstance(attack, StreamingAttack):
            yield from self._by_batches(classifier, attack, todo, known)
            return
        waiting = deque(i for i in todo if i not in known)
        expect(self.data, torch.tensor(waiting, dtype=torch.long))

        def feed(count: int) -> Batch | None:
            some = [waiting.popleft() for _ in range(min(count, len(waiting)))]
            return self._batch(attack, some) if some else None

        parts: list[Finished] = []
        for finished in attack.propose(classifier, feed, width=self.width):
            parts.append(finished)
            if sum(len(part.indices) for part in parts) >= self.width // 4:
                yield _concatenated(parts)
                parts = []
        if parts:
            yield _concatenated(parts)

    def _by_batches(
        self, classifier: Classifier, attack: Attack, todo: list[int], known: set[int]
    ) -> Iterator[Finished]:
        # Such attacks may draw noise for a batch as a whole, so a resumed run keeps the batches.
        for at in range(0, len(todo), self.width):
            some = todo[at : at + self.width]
            if not known.issuperset(some):
                batch = self._batch(attack, some)
                x_adv = attack(classifier, batch.x, batch.y, generator=batch.generator)
                if x_adv.shape != batch.x.shape:
                    shapes = f"{tuple(x_adv.shape)}, not {tuple(batch.x.shape)}"
                    raise InputError(f"returned images of shape {shapes}", where=attack)
                none = torch.zeros(len(some), dtype=torch.bool)
                yield Finished(batch.indices, x_adv, none)

    def _batch(self, attack: Attack, some: list[int]) -> Batch:
        indices = torch.tensor(some, dtype=torch.long)
        generators = [stream(self.seed, attack, self.data.ids[i]) for i in some]
        return Batch(indices.to(self.meter.device), *self.load(indices), generators)

    def load(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels at *indices*, on the classifier's device."""
        x, y = self.data.batch(indices)
        return x.to(self.meter.device, non_blocking=True), y.to(self.meter.device)

    def _confirm(self, attack: Attack, proposed: Finished) -> Tensor:
        """Return ``(B,)`` bool: which images survive, judged in float32 and within the threat."""
        x, y = self.load(proposed.indices.cpu())
        x_adv = proposed.x_adv.detach().float()
        outside = ~attack.threat.contains(x_adv, x)
        if bool(outside.any()):
            what = f"left its threat model {attack.threat} on {int(outside.sum())} of {len(x)}"
            raise InputError(f"{what} images", where=attack, fix="its verdicts cannot be used")
        x_adv = attack.threat.project(x_adv, x)
        survives = answers_right(self.meter, x_adv, y)
        if self.cache is not None:
            fooled = proposed.indices[~survives].tolist()
            ids = [self.data.ids[i] for i in fooled]
            self.cache.keep(str(attack.threat), ids, x_adv[~survives])
        return survives

    def _flags(self, indices: Iterable[int]) -> Tensor:
        flags = torch.zeros(len(self.data), dtype=torch.bool)
        flags[list(indices)] = True
        return flags


def _split(indices: Sequence[int], size: int) -> tuple[Tensor, ...]:
    """Return *indices* in tensors of at most *size*; none if there are no indices."""
    return torch.tensor(indices, dtype=torch.long).split(size) if indices else ()


def _concatenated(parts: Sequence[Finished]) -> Finished:
    return Finished(*(torch.cat(column) for column in zip(*parts, strict=True)))

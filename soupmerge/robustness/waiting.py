"""Examples that wait for a place in the climb: fresh ones, and those that are to try again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from soupmerge.robustness.engine import AttackState, Fresh
from soupmerge.types import Classifier, Generators

Start: TypeAlias = Callable[[Tensor, Tensor, Tensor, Generators], Tensor]
"""``(x, y, target, generator)`` → where to begin."""


class Batch(NamedTuple):
    """Examples: their places ``(B,)``, images, labels, and what their noise is drawn from."""

    place: Tensor
    x: Tensor
    y: Tensor
    generator: Generators


class Feed(Protocol):
    """Gives examples as there is room for them."""

    def __call__(self, count: int, /) -> Batch | None:
        """Return *count* examples at most; None if there are no more."""


def once(x: Tensor, y: Tensor, generator: Generators) -> Feed:
    """Return a feed that gives one batch, whole."""
    batches = [Batch(torch.arange(len(x), device=x.device), x, y, generator)] if len(x) else []
    return lambda count: batches.pop() if batches else None


class Given:
    """A source of examples whose start is known, with one try each."""

    def __init__(self, x: Tensor, y: Tensor, target: Tensor, start: Tensor) -> None:
        self.fresh = [Fresh(x, y, target, torch.arange(len(x), device=x.device), start)]

    def take(self, count: int) -> Fresh | None:
        """Return all, once."""
        return self.fresh.pop() if self.fresh else None

    def back(self, state: AttackState, over: Tensor) -> Tensor:
        """Take nothing back."""
        return torch.zeros_like(over)


class Waiting:
    """A source that lets an example try again, from another start or towards another class.

    Args:
        classifier: is asked, for *targets*, which classes are likeliest for the clean image.
        feed: where examples come from.
        start: where they begin.
        targets: how many classes are tried in turn; 0 if the loss has none.
        tries: how often each is tried.
    """

    def __init__(
        self, classifier: Classifier, feed: Feed, start: Start, *, targets: int, tries: int
    ) -> None:
        self.classifier, self.feed, self.start = classifier, feed, start
        self.targets, self.tries = targets, tries
        self.rounds = max(targets, 1) * tries
        self.round: dict[int, int] = {}
        self.again: list[tuple[int, Tensor, Tensor]] = []
        self.generators: dict[int, torch.Generator] = {}

    def take(self, count: int) -> Fresh | None:
        """Return those that try again, then fresh ones."""
        parts = []
        if self.again:
            parts.append(self._repeated(count))
        room = count - sum(len(part.x) for part in parts)
        if room and (batch := self.feed(room)) is not None:
            parts.append(self._begun(batch))
        if not parts:
            return None
        return Fresh(*(torch.cat(both) for both in zip(*parts, strict=True)))

    def back(self, state: AttackState, over: Tensor) -> Tensor:
        """Take back the examples of the mask *over* that have rounds left; return which."""
        again = torch.zeros_like(over)
        if self.rounds == 1:
            return again
        for row in over.nonzero().flatten().tolist():
            place = int(state.place[row])
            self.round[place] += 1
            if self.round[place] < self.rounds:
                self.again.append((place, state.x[row].clone(), state.y[row]))
                again[row] = True
        return again

    def _repeated(self, count: int) -> Fresh:
        ready, self.again = self.again[:count], self.again[count:]
        x, y = (torch.stack([entry[column] for entry in ready]) for column in (1, 2))  # type: ignore[misc]
        places = [place for place, _, _ in ready]
        generators = [self.generators[place] for place in places]
        return self._fresh(Batch(y.new_tensor(places), x, y, generators))

    def _begun(self, batch: Batch) -> Fresh:
        if self.rounds > 1:
            places = batch.place.tolist()
            self.round |= dict.fromkeys(places, 0)
            one = isinstance(batch.generator, torch.Generator)
            each = [batch.generator] * len(places) if one else batch.generator
            self.generators |= dict(zip(places, each, strict=True))  # type: ignore[arg-type]
        return self._fresh(batch)

    def _fresh(self, batch: Batch) -> Fresh:
        place, x, y, generator = batch
        target = self._target(place, x, y) if self.targets else y
        return Fresh(x, y, target, place, self.start(x, y, target, generator))

    def _target(self, place: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return ``(B,)``: of the wrong classes, the likeliest that was not yet tried."""
        with torch.no_grad():
            logits = self.classifier(x)
        wrong = logits.scatter(1, y[:, None], -torch.inf)
        # No more classes than there are: the reference indexes past the end below ten.
        self.rounds = min(self.targets, logits.shape[1] - 1) * self.tries
        turns: Sequence[int] = [self.round.get(p, 0) // self.tries for p in place.tolist()]
        ranked = wrong.argsort(1, descending=True)
        return ranked.gather(1, y.new_tensor(turns)[:, None]).squeeze(1)

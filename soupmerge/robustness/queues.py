"""Examples that wait to be attacked: for the first time, or for another try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from soupmerge.robustness.engine import AttackState, NewExamples
from soupmerge.types import Batch, Classifier, Feed, Generators

Start: TypeAlias = Callable[[Tensor, Tensor, Tensor, Generators], Tensor]
"""``(x, y, target, generator)`` → starting points."""


def feed_once(x: Tensor, y: Tensor, generator: Generators) -> Feed:
    """Return a feed that supplies one batch, as a whole."""
    batches = [Batch(torch.arange(len(x), device=x.device), x, y, generator)] if len(x) else []
    return lambda count: batches.pop() if batches else None


class SingleTry:
    """A queue of examples that are tried once, from the starting points *start*."""

    def __init__(self, x: Tensor, y: Tensor, target: Tensor, start: Tensor) -> None:
        indices = torch.arange(len(x), device=x.device)
        self.count, self.new = len(x), [NewExamples(x, y, target, indices, start)]

    def __len__(self) -> int:
        return self.count

    def take(self, count: int) -> NewExamples | None:
        """Return all examples, and None from then on."""
        return self.new.pop() if self.new else None

    def requeue(self, state: AttackState, unsuccessful: Tensor) -> Tensor:
        """Take nothing back."""
        return torch.zeros_like(unsuccessful)


class Retries:
    """A queue that tries an example again, from another start or towards another class.

    Args:
        classifier: ranks the classes to target by its logits for the clean image.
        feed: supplies the examples.
        start: gives the starting points.
        targets: how many classes are targeted in turn; 0 if the loss has no targets.
        tries: how many starts each of them gets.
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

    def take(self, count: int) -> NewExamples | None:
        """Return examples to be tried again, then new ones."""
        parts = []
        if self.again:
            parts.append(self._requeued(count))
        free = count - sum(len(part.x) for part in parts)
        if free and (batch := self.feed(free)) is not None:
            parts.append(self._first_try(batch))
        if not parts:
            return None
        return NewExamples(*(torch.cat(both) for both in zip(*parts, strict=True)))

    def requeue(self, state: AttackState, unsuccessful: Tensor) -> Tensor:
        """Take back the examples of the mask *unsuccessful* that have rounds left."""
        again = torch.zeros_like(unsuccessful)
        if self.rounds == 1:
            return again
        for row in unsuccessful.nonzero().flatten().tolist():
            index = int(state.indices[row])
            self.round[index] += 1
            if self.round[index] < self.rounds:
                self.again.append((index, state.x[row].clone(), state.y[row]))
                again[row] = True
        return again

    def _requeued(self, count: int) -> NewExamples:
        ready, self.again = self.again[:count], self.again[count:]
        x, y = (torch.stack([entry[column] for entry in ready]) for column in (1, 2))  # type: ignore[misc]
        indices = [index for index, _, _ in ready]
        generators = [self.generators[index] for index in indices]
        return self._started(Batch(y.new_tensor(indices), x, y, generators))

    def _first_try(self, batch: Batch) -> NewExamples:
        if self.rounds > 1:
            indices = batch.indices.tolist()
            self.round |= dict.fromkeys(indices, 0)
            one = isinstance(batch.generator, torch.Generator)
            each = [batch.generator] * len(indices) if one else batch.generator
            self.generators |= dict(zip(indices, each, strict=True))  # type: ignore[arg-type]
        return self._started(batch)

    def _started(self, batch: Batch) -> NewExamples:
        indices, x, y, generator = batch
        target = self._target(indices, x, y) if self.targets else y
        return NewExamples(x, y, target, indices, self.start(x, y, target, generator))

    def _target(self, indices: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return ``(B,)``: the likeliest wrong class that was not yet targeted."""
        with torch.no_grad():
            logits = self.classifier(x)
        wrong = logits.scatter(1, y[:, None], -torch.inf)
        # With fewer than ten classes, the reference would index past the last one.
        self.rounds = min(self.targets, logits.shape[1] - 1) * self.tries
        turns: Sequence[int] = [self.round.get(i, 0) // self.tries for i in indices.tolist()]
        ranked = wrong.argsort(1, descending=True)
        return ranked.gather(1, y.new_tensor(turns)[:, None]).squeeze(1)

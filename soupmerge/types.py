"""Protocols and types by which the parts of soupmerge know each other; no implementation.

Images are ``(B, C_in, H, W)`` float32 in ``[0, 1]``; labels ``(B,)`` int64; logits ``(B, C)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

State: TypeAlias = Mapping[str, Tensor]
"""Weights of one network: tensor name to tensor."""

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator]
"""Randomness for a batch: one generator for all examples, or one for each."""

Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
"""Changes training images ``(B, C_in, H, W)`` at random, in a way that keeps their labels."""


class Classifier(Protocol):
    """A function from images ``(B, C_in, H, W)`` to logits ``(B, C)``."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the logits of *x*."""


class ThreatModel(Protocol):
    """What an attacker may do to an image: a ball around it, within the pixel box."""

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return *x_adv* projected onto the ball around *x* and ``[0, 1]``."""

    def sample(self, x: Tensor, generator: Generators) -> Tensor:
        """Return a random starting point in the ball around *x*."""

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return ``(B,)`` bool: whether each image of *x_adv* is allowed."""


class Attack(Protocol):
    """Proposes an adversarial image for each image; the caller checks it again."""

    @property
    def threat(self) -> ThreatModel:
        """The threat model that the attack stays in."""

    def describe(self) -> dict[str, Any]:
        """Return the attack's name and every setting that changes its result."""

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images, of the shape of *x*."""


class Batch(NamedTuple):
    """Examples handed to an attack.

    Attributes:
        indices: ``(B,)`` int64: which of the caller's examples these are.
        x: images.
        y: labels.
        generator: randomness for their starting points.
    """

    indices: Tensor
    x: Tensor
    y: Tensor
    generator: Generators


class Feed(Protocol):
    """Supplies an attack with examples as it has room for them."""

    def __call__(self, count: int, /) -> Batch | None:
        """Return at most *count* examples, or None if there are no more."""


class Finished(NamedTuple):
    """Examples that an attack is done with.

    Attributes:
        indices: ``(B,)`` int64: which of the caller's examples these are.
        x_adv: the adversarial images proposed for them.
        fooled: ``(B,)`` bool: whether the attack saw the classifier fooled.
    """

    indices: Tensor
    x_adv: Tensor
    fooled: Tensor


@runtime_checkable
class StreamingAttack(Attack, Protocol):
    """An attack that takes in new examples as others finish.

    What it proposes for an example must not depend on the others, so it may run in a lower
    precision than the one that verdicts are made in.
    """

    def propose(self, classifier: Classifier, feed: Feed, *, width: int) -> Iterator[Finished]:
        """Yield examples of *feed* as they finish, in any order, attacking *width* at a time."""


@runtime_checkable
class StagedAttack(Attack, Protocol):
    """An attack made of several, each of which sees only the images that survived those before."""

    @property
    def stages(self) -> Sequence[Attack]:
        """The attacks, in the order in which they run."""


@runtime_checkable
class SupportsGivingUp(Attack, Protocol):
    """An attack that can stop early on images it is unlikely to fool."""

    def giving_up(self) -> Attack:
        """Return the attack that does so; itself where that would change too many verdicts."""


class Objective(Protocol):
    """What training minimises: first craft images, then take the loss on them."""

    def describe(self) -> dict[str, Any]:
        """Return the objective's name and every setting that changes its result."""

    def craft(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return the images to train on, of the shape of *x*, without gradients in the weights."""

    def loss(self, classifier: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss, a scalar that is differentiable in the weights."""


class Scalarisation(Protocol):
    """How the losses of several objectives become one."""

    def __call__(self, losses: Tensor, shares: Tensor, ideal: Tensor) -> Tensor:
        """Return a scalar that is differentiable in *losses* ``(T,)``.

        Args:
            losses: the loss of each objective.
            shares: the preference between them, which sums to 1.
            ideal: the lowest loss of any ingredient for each objective.
        """


class Examples(Protocol):
    """A labelled set of images; every batch is float32 in ``[0, 1]``.

    Two attributes need not be there. ``outputs`` (`label_spaces.outputs.Outputs`) says how the
    logits of a network become those of the classes. ``also_right``, ``(N, C)`` bool, marks classes
    that are right besides that of the label.
    """

    @property
    def ref(self) -> str:
        """The reference from which the set can be loaded again."""

    @property
    def ids(self) -> Sequence[str]:
        """One name for each example, the same in every run."""

    @property
    def labels(self) -> Tensor:
        """``(N,)`` int64."""

    @property
    def classes(self) -> int:
        """Number of classes ``C``."""

    def __len__(self) -> int:
        """Return the number of examples ``N``."""

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images ``(B, C_in, H, W)`` and labels ``(B,)`` at *indices*."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the set: ref, split, number of examples, sha256.

        A set that knows the names of its classes lists them under ``classes``, in label order. A
        set with `outputs` adds their fingerprint.
        """


@runtime_checkable
class SupportsExpectation(Protocol):
    """Examples that prepare images before they are asked for, because that takes long."""

    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for `Examples.batch` being asked for *indices*, in this order.

        With *draw*, images may be changed at random, as a function of *draw* and their ids.
        """


def expect(examples: Examples, indices: Tensor, draw: object = None) -> None:
    """Tell *examples* that the images at *indices* are asked for next, if that helps them.

    Training gives the key of its randomness as *draw*, so that images may be changed at random.
    """
    if isinstance(examples, SupportsExpectation):
        examples.expect(indices, draw)


class Progress(Protocol):
    """A callback that reports the progress of long work."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Report that *done* of *total* units of *what* are done."""


def quiet(what: str, done: int, total: int, note: str = "") -> None:
    """Report nothing: the default `Progress`."""

"""The shapes in which the rooms know each other: protocols, and no code that works.

Images are ``(B, C_in, H, W)`` float32 in ``[0, 1]``; labels ``(B,)`` int64; logits ``(B, C)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

State: TypeAlias = Mapping[str, Tensor]
"""Weights of one network: tensor name to tensor."""

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator]
"""A source of randomness for a batch: one for all examples, or one for each."""


Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
"""Changes training images ``(B, C_in, H, W)``, drawn from the generator, and keeps their labels."""


class Classifier(Protocol):
    """Images ``(B, C_in, H, W)`` to logits ``(B, C)``."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the logits of *x*."""


class ThreatModel(Protocol):
    """What an attacker may do to an image: a ball around it, within the pixel box."""

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return *x_adv* brought back into the ball around *x* and into ``[0, 1]``."""

    def sample(self, x: Tensor, generator: Generators) -> Tensor:
        """Return a random start in the ball around *x*."""

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return ``(B,)`` bool: is each image of *x_adv* allowed?"""


class Attack(Protocol):
    """Proposes an adversarial image for each image; whoever asked re-checks it."""

    @property
    def threat(self) -> ThreatModel:
        """The threat model the attack stays in."""

    def describe(self) -> dict[str, Any]:
        """Return the attack's name and every setting that changes its result."""

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images, of the shape of *x*."""


class Objective(Protocol):
    """What training minimises: first craft images, then take the loss on them."""

    def describe(self) -> dict[str, Any]:
        """Return the objective's name and every setting that changes its result."""

    def craft(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return the images to train on, of the shape of *x*; no weight takes a gradient."""

    def loss(self, classifier: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss, a scalar, to be differentiated in the weights."""


class Examples(Protocol):
    """A labelled set of images; every batch is float32 in ``[0, 1]``."""

    @property
    def ref(self) -> str:
        """The written form that gives this set again."""

    @property
    def ids(self) -> Sequence[str]:
        """One name per example, stable across runs."""

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

        A set that knows the names of its classes lists them as ``classes``, by their labels.
        """


class Progress(Protocol):
    """Is told how far long work has come."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say that *done* of *total* units of *what* are done."""


def quiet(what: str, done: int, total: int, note: str = "") -> None:
    """Tell nobody."""

"""Adversarial images that fooled one classifier, to be tried on the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class AdversarialCache:
    """For each threat, the last image that fooled a classifier, by the id of its example."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Tensor]] = {}

    def known(self, threat: str, ids: Sequence[str]) -> list[int]:
        """Return the places in *ids* of the examples that one is held for."""
        held = self.held.get(threat, {})
        return [place for place, id in enumerate(ids) if id in held]

    def images(self, threat: str, ids: Sequence[str]) -> Tensor:
        """Return those of *ids*, ``(B, C, H, W)`` float32."""
        return torch.stack([self.held[threat][id] for id in ids])

    def keep(self, threat: str, ids: Sequence[str], x_adv: Tensor) -> None:
        """Hold *x_adv* ``(B, C, H, W)`` for the examples *ids*."""
        copies = x_adv.detach().float().cpu().clone()
        self.held.setdefault(threat, {}).update(zip(ids, copies, strict=True))

    def state(self) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
        """Return threat → images ``(M, C, H, W)``, and threat → the M ids."""
        ids = {threat: list(held) for threat, held in self.held.items() if held}
        return {threat: self.images(threat, names) for threat, names in ids.items()}, ids

    def restore(self, images: Mapping[str, Tensor], ids: Mapping[str, Sequence[str]]) -> None:
        """Hold what `state` gave."""
        for threat, names in ids.items():
            self.held[threat] = dict(zip(names, images[threat], strict=True))

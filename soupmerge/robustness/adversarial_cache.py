"""A cache of adversarial images that fooled one classifier, to be tried on the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class AdversarialCache:
    """For each threat and example, the last image that fooled a classifier.

    Attributes:
        by_threat: threat → id of the example → image ``(C, H, W)`` float32.
    """

    def __init__(self) -> None:
        self.by_threat: dict[str, dict[str, Tensor]] = {}

    def known(self, threat: str, ids: Sequence[str]) -> list[int]:
        """Return the indices in *ids* of the examples that have an image."""
        images = self.by_threat.get(threat, {})
        return [index for index, id in enumerate(ids) if id in images]

    def images(self, threat: str, ids: Sequence[str]) -> Tensor:
        """Return the images of the examples *ids*, ``(B, C, H, W)`` float32."""
        return torch.stack([self.by_threat[threat][id] for id in ids])

    def keep(self, threat: str, ids: Sequence[str], x_adv: Tensor) -> None:
        """Keep *x_adv* ``(B, C, H, W)`` as the images of the examples *ids*."""
        copies = x_adv.detach().float().cpu().clone()
        self.by_threat.setdefault(threat, {}).update(zip(ids, copies, strict=True))

    def state(self) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
        """Return threat → images ``(M, C, H, W)``, and threat → ids of the M examples."""
        ids = {threat: list(images) for threat, images in self.by_threat.items() if images}
        return {threat: self.images(threat, own) for threat, own in ids.items()}, ids

    def restore(self, images: Mapping[str, Tensor], ids: Mapping[str, Sequence[str]]) -> None:
        """Keep the images of a `state`."""
        for threat, own in ids.items():
            self.by_threat[threat] = dict(zip(own, images[threat], strict=True))

"""A classifier that is asked about the images of a data set, and how often it was asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from soupmerge.asking import answering
from soupmerge.robustness.losses import is_right
from soupmerge.robustness.memory import halving
from soupmerge.types import Classifier, Examples


class Meter:
    """A classifier that counts its gradient and forward evaluations, image by image.

    Args:
        classifier: the classifier.
        data: the examples about whose classes it is asked.
    """

    def __init__(self, classifier: Classifier, data: Examples) -> None:
        self.classifier, self.data = classifier, data
        self.counts = {"gradient_evaluations": 0, "forward_evaluations": 0}
        self.device = device_of(classifier)
        self._answering = answering(classifier, data)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits of *x*, and count its images."""
        kind = "gradient" if torch.is_grad_enabled() and x.requires_grad else "forward"
        self.counts[f"{kind}_evaluations"] += len(x)
        return self._answering(x)


def device_of(classifier: Classifier) -> torch.device:
    """Return the device of the parameters of *classifier*; the CPU if it has none."""
    parameters = classifier.parameters() if isinstance(classifier, nn.Module) else ()
    return next((p.device for p in parameters), torch.device("cpu"))


def answers_right(classifier: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Return ``(B,)`` bool: whether *classifier* answers each image right, with finite logits.

    Args:
        classifier: the classifier.
        x: images.
        y: labels ``(B,)``, or all right classes, ``(B, C)`` bool.
    """

    def query(x: Tensor, y: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [is_right(classifier(x), y)]

    return halving(query, x, y)[0]

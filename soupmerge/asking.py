"""Asking a classifier about the images of a data set: the first of them, and by which outputs."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from soupmerge.binding import first_line
from soupmerge.errors import InputError, SoupmergeError
from soupmerge.label_spaces.outputs import outputs_of
from soupmerge.types import Classifier, Examples

UNLIKELY = 1e-3
"""Probability below which missing labels are not put down to chance."""


def answering(classifier: Classifier, data: Examples) -> Classifier:
    """Return *classifier* with the logits ``(B, C)`` of the classes of *data*.

    Whatever asks a network about the images of a data set, attacks included, asks it through this
    function. It returns *classifier* itself unless *data* have `outputs`.
    """
    outputs = outputs_of(data)
    if outputs is None:
        return classifier

    def restricted(x: Tensor, /) -> Tensor:
        return outputs(classifier(x))

    return restricted


def probe(
    classifier: Classifier,
    data: Examples,
    device: torch.device,
    *,
    where: str = "model",
    fix: str = "choose data of the kind it was trained on",
) -> None:
    """Run *classifier* on one image of *data*, so that a mismatch is reported before any work.

    *where* names the classifier in errors; *fix* says what to do if it rejects the image.

    Raises:
        InputError: it rejects the image, does not return a row of logits, or has other classes.
    """
    x, _ = data.batch(torch.zeros(1, dtype=torch.long))
    try:
        with torch.no_grad():
            logits: object = classifier(x.to(device))
    except SoupmergeError:
        raise
    except Exception as error:  # foreign code may raise anything
        what = f"cannot take images of shape {tuple(x.shape[1:])}: {first_line(error)}"
        raise InputError(what, where=where, fix=fix) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        output = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"returns {output}, not logits (1, classes)", where=where)
    if not logits.is_floating_point():
        raise InputError(f"returns logits of {logits.dtype}, not floating point", where=where)
    outputs = outputs_of(data)
    if outputs is None:
        _require_classes(logits.shape[1], data, where)
    else:
        outputs.require(logits.shape[1], where)


def _require_classes(outputs: int, data: Examples, where: str) -> None:
    """Reject *data* whose classes are not those of a network with so many *outputs*.

    A set without class names may lack the network's last classes by chance. It is rejected if it
    has a label too many; a warning is given if the missing labels are unlikely to be chance.
    """
    names, top = data.fingerprint().get("classes"), int(data.labels.max())
    if names is not None and len(names) != outputs:
        raise InputError(
            f"has {outputs} outputs, but {data.ref} has {len(names)} classes",
            where=where,
            fix=f"use data with its {outputs} classes, or a network for these {len(names)}",
        )
    if top >= outputs:
        raise InputError(
            f"has {outputs} classes, but the data have a label {top}",
            where=where,
            fix="choose data with the classes it was trained on",
        )
    if names is None and min(data.classes / outputs, 1) ** len(data) < UNLIKELY:
        what = f"{where}: has {outputs} outputs, but {data.ref} has no label above"
        fix = "check that its classes are numbered as the network's are"
        warnings.warn(f"{what} {data.classes - 1}; {fix}", stacklevel=4)

"""Labels by name: the classes of a set of images are found among the outputs of networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeAlias

import torch
from torch import Tensor

from soupmerge.errors import InputError, enumerated
from soupmerge.label_spaces.known import label_space
from soupmerge.label_spaces.space import LabelSpace
from soupmerge.sources.images.image_set import Images
from soupmerge.weights.classes import space_of
from soupmerge.weights.files import Checkpoint

Classes: TypeAlias = str | LabelSpace | Checkpoint | Iterable[Checkpoint]
"""What outputs stand for: the reference of a label space, the space, or networks that record it."""


def meant(classes: Classes | None, names: Sequence[str]) -> LabelSpace | None:
    """Return the label space that *classes* means; None if it says nothing about *names*.

    Raises:
        UsageError: there is no such label space.
        InputError: its file names outputs badly, or networks stand for different classes.
    """
    if classes is None or isinstance(classes, LabelSpace):
        return classes
    if isinstance(classes, str):
        return label_space(classes)
    networks = [classes] if isinstance(classes, Checkpoint) else classes
    return space_of(networks, names) if names else None


def labelled(images: Images, space: LabelSpace) -> Images:
    """Return *images* with their classes found among the outputs of networks.

    Classes are found by their names. Without names, label i means class i of the space.

    Args:
        images: the images, whose labels are the ranks of their classes.
        space: what the outputs stand for.

    Raises:
        InputError: a class of *images* is none of the space, or two are the same; all of them are
            listed.
    """
    if space.right_by_image is not None:
        return _labelled_by_image(images, space)
    if not images.class_names:
        return _labelled_by_number(images, space)
    places = space.places(images.class_names, where=images.ref)
    if not space.whole:
        return replace(images, outputs=space.restricted(places))
    _warn_of_missing(images, space, set(places))
    return _with_classes_of(space, images, torch.tensor(places)[images.labels])


def _with_classes_of(
    space: LabelSpace, images: Images, labels: Tensor, also_right: Tensor | None = None
) -> Images:
    """Return *images* with all classes of *space*, of which *labels* are indices."""
    names = tuple(entry.names[0] for entry in space.classes)
    return replace(
        images,
        labels=labels,
        classes=len(names),
        class_names=names,
        outputs=space.restricted(range(len(names))),
        also_right=also_right,
    )


def _labelled_by_number(images: Images, space: LabelSpace) -> Images:
    if (top := int(images.labels.max())) >= len(space.classes):
        what = f"has a label {top}, but {space.ref} has {len(space.classes):,} classes"
        fix = "number its labels as the classes of the space, or give images in class folders"
        raise InputError(what, where=images.ref, fix=fix)
    return _with_classes_of(space, images, images.labels)


def _warn_of_missing(images: Images, space: LabelSpace, found: set[int]) -> None:
    missing = [entry.names[0] for i, entry in enumerate(space.classes) if i not in found]
    if missing:
        what = f"{images.ref}: no folders of {len(missing)} of {len(space.classes)} classes"
        warnings.warn(f"{what} of {space.ref}: {enumerated(missing)}", stacklevel=4)


def _labelled_by_image(images: Images, space: LabelSpace) -> Images:
    """Return those of *images* that have labels in *space*, each with all of them."""
    by_image = space.right_by_image or {}
    names = [PurePosixPath(id).stem for id in images.ids]
    if unknown := [id for id, name in zip(images.ids, names, strict=True) if name not in by_image]:
        what = f"{len(unknown)} of {len(names)} images are none of those that {space.ref} labels"
        fix = f"give the images under their own names, such as {next(iter(by_image))}"
        raise InputError(what, problems=unknown, where=images.ref, fix=fix)
    right = [by_image[name] for name in names]
    kept = [i for i, classes in enumerate(right) if classes]
    if not kept:
        what = f"none of its {len(right)} images has a label in {space.ref}"
        raise InputError(what, where=images.ref, fix="use more images")
    if without := len(right) - len(kept):
        what = f"{images.ref}: left out {without} of {len(right)} images"
        warnings.warn(f"{what}, which have no label in {space.ref}", stacklevel=3)
    marks = torch.zeros(len(kept), len(space.classes), dtype=torch.bool)
    for row, i in enumerate(kept):
        marks[row, list(right[i])] = True
    split = f"{images.split}, without {without} unlabelled" if without else images.split
    labels = torch.tensor([right[i][0] for i in kept])
    return _with_classes_of(space, images.take(torch.tensor(kept), split), labels, marks)

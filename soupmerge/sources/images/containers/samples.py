"""Samples of a shard: the image and the label among the files that have one name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from soupmerge.errors import InputError, enumerated
from soupmerge.sources.images.containers.image_files import SUFFIXES
from soupmerge.sources.images.containers.kept_arrays import Arrays, kept, packed, unpacked
from soupmerge.sources.images.containers.shards import members
from soupmerge.storage.reading import StableFile, parse_json

MEMBER = re.compile(r"((?:.*/)?(?!\.|__)[^/.]+)\.([^/]+)", re.DOTALL)
"""Name of a member: the key of its sample and its suffix. Hidden files and notes have none."""
IMAGES = tuple(suffix[1:] for suffix in SUFFIXES)
TEXT, JSON, KEY = "cls", "json", "label"
"""Suffixes of members that hold labels, and where in JSON they are."""
MOST_BYTES = 1 << 20
"""Of a member that holds a label."""


class Samples(NamedTuple):
    """The samples of a shard.

    Attributes:
        names: ``(N,)``: the member that is the image of each.
        spans: ``(N, 3)``: see `shards.Members`.
        labels: ``(N,)``: their labels as they are written.
    """

    names: list[str]
    spans: NDArray[np.int64]
    labels: list[str]


def samples(file: StableFile, image: str | None, label: str | None) -> Samples:
    """Return the samples of the shard *file*, from the cache if they were found before.

    Args:
        file: the shard.
        image: the suffix of images; default any that images have.
        label: the suffix of labels, or their key in JSON; default ``cls``, or ``label`` in JSON.

    Raises:
        InputError: samples have no image or label, or several; all of them are named.
    """
    what = f"samples, image {image}, label {label}"
    found = kept("shards", file, what, lambda: _found(file, image, label))
    return Samples(unpacked(found["names"]), found["spans"], unpacked(found["labels"]))


def _found(file: StableFile, image: str | None, label: str | None) -> Arrays:
    names, spans = members(file)
    images, labels, problems = [], [], []
    with file.opened() as raw:
        for key, suffixes in _by_key(file, names).items():
            try:
                place = suffixes[_image(suffixes, image)]
                labels.append(_label(raw, suffixes, spans, label))
                images.append(place)
            except (ValueError, RecursionError) as error:
                problems.append(f"{key} {error}")
    if problems:
        what = "has samples without one image and one label each"
        fix = "name other suffixes with ?image=SUFFIX&label=SUFFIX-OR-KEY, or pack it again"
        raise InputError(what, problems=problems, where=file.path, fix=fix)
    chosen = [names[place] for place in images]
    return {"names": packed(chosen), "spans": spans[images], "labels": packed(labels)}


def _by_key(file: StableFile, names: list[str]) -> dict[str, dict[str, int]]:
    """Return key of each sample → suffix of its members, in lower case → their places."""
    found: dict[str, dict[str, int]] = {}
    twice = []
    for place, name in enumerate(names):
        if match := MEMBER.fullmatch(name):
            suffixes = found.setdefault(match[1], {})
            if suffixes.setdefault(match[2].lower(), place) != place:
                twice.append(name)
    if twice:
        what = "has members that differ only in the case of their suffixes"
        raise InputError(what, problems=twice, where=file.path, fix="rename them")
    return found


def _image(suffixes: Mapping[str, int], image: str | None) -> str:
    """Return the suffix of the only image of a sample."""
    found = [suffix for suffix in suffixes if suffix in (IMAGES if image is None else (image,))]
    if len(found) != 1:
        how = f"has the images {enumerated(found)}" if found else "has no image"
        raise ValueError(f"{how}, among {enumerated(list(suffixes))}")
    return found[0]


def _label(
    raw: BinaryIO, suffixes: Mapping[str, int], spans: NDArray[np.int64], label: str | None
) -> str:
    """Return the label of a sample, as it is written in the shard that is opened as *raw*."""
    own = label or TEXT
    if own not in suffixes and JSON not in suffixes:
        raise ValueError(f"has no label: no {own} or {JSON} among {enumerated(list(suffixes))}")
    start, size, _ = spans[suffixes[own if own in suffixes else JSON]].tolist()
    if size > MOST_BYTES:
        raise ValueError(f"has a label of {size:,} bytes")
    raw.seek(start)
    text = raw.read(size).decode("utf-8", "surrogateescape")
    text = text.strip() if own in suffixes else _in_json(text, label or KEY)
    if not text or "\0" in text:
        raise ValueError("has an empty label")
    return text


def _in_json(text: str, key: str) -> str:
    """Return what is written under *key*: a number, or the name of a class."""
    value = parse_json(text)
    if not isinstance(value, dict) or key not in value:
        found = enumerated([*value]) if isinstance(value, dict) else f"a {type(value).__name__}"
        raise ValueError(f"has no label: no key {key!r} in its JSON, found {found}")
    if isinstance(value[key], bool) or not isinstance(value[key], int | str):
        raise ValueError(f"has a {type(value[key]).__name__} under {key!r}, not a class")
    return str(value[key])

"""``rb:DATA/THREAT/NAME`` → `Checkpoint`: the file found or pulled, under the network's names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from soupmerge.errors import InputError
from soupmerge.sources.robustbench import keeping, zoo
from soupmerge.sources.robustbench.zoo import Entry
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.tensors import DTYPES, ConstantView, TensorInfo, View

if TYPE_CHECKING:
    from soupmerge.types import Progress

UNUSED = ("model_preact_hl1.",)
"""Beginnings of names in published files that no network has; RobustBench passes over them too."""

CLEAN = "/Standard"
"""End of the names of networks that were trained against no threat, but judged under one."""

NORMALISERS = ("normalize.", "normalizer.")
"""Beginnings of a wrapping normaliser's names."""


def opened(
    ref: str,
    *,
    weights_key: str | None = None,
    foreign: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Return the checkpoint of the zoo that *ref* names; its file is pulled if it is not here.

    Tensors have the names of soupmerge's network for the entry. It knows its network and, where
    RobustBench's table and the papers tell, the training run that it comes from.

    Raises:
        UsageError: there is no such entry.
        NetworkError: the file is not here and cannot be had.
        InputError, UnsafeError: the file is damaged, or not the one that was pulled first.
    """
    entry = zoo.entry(ref)
    path = keeping.file_of(entry, progress=progress)
    key = weights_key or (entry.key if path.suffix != ".safetensors" else "") or None
    found = _opened(path, key, foreign)
    views, notes = _under_our_names(entry, found)
    known = {**_notes(entry), **found.notes_of_soupmerge}
    checkpoint = replace(
        found,
        ref=ref,
        views=dict(sorted(views.items())),
        metadata={**found.metadata, "soupmerge": json.dumps(known)},
        notes=(*found.notes, *notes),
    )
    keeping.require_pinned(path, checkpoint)
    return checkpoint


def _opened(path: Path, key: str | None, foreign: bool) -> Checkpoint:
    try:
        return open_checkpoint(path, weights_key=key, foreign=foreign)
    except InputError as error:
        # RobustBench takes 'state_dict' wherever there is one.
        if key is None and "several state dicts" in error.what and "'state_dict'" in error.what:
            return open_checkpoint(path, weights_key="state_dict", foreign=foreign)
        raise


def _under_our_names(entry: Entry, found: Checkpoint) -> tuple[dict[str, View], list[str]]:
    """Return the views under the network's names, and what was done to get there."""
    views, notes = dict(found.views), []
    if unused := [name for name in views if name.startswith(UNUSED)]:
        notes.append(f"left aside {', '.join(unused)}")
    wrapping = [name for name in views if name.startswith(NORMALISERS)]
    rest = {n: view for n, view in views.items() if n not in unused and n not in wrapping}
    if wrapping and all(name.startswith("model.") for name in rest):
        _require_same_constants(entry, [found.views[name] for name in sorted(wrapping)])
        rest = {name.removeprefix("model."): view for name, view in rest.items()}
        notes.append("took the network out of its normaliser, which the network here has inside")
    else:
        rest |= {name: views[name] for name in wrapping}
    if "swin" in entry.network:
        rest = dict(_swin(rest))
    stated = dict(_stated(entry, rest, found))
    if stated:
        notes.append(f"added {' and '.join(stated)}, which RobustBench's definition states")
    return {**rest, **stated}, notes


def _constants(entry: Entry) -> tuple[list[str], list[tuple[float, ...]]]:
    """Return the names of the tensors with mean and deviation, if any, and their numbers."""
    query = dict(parse_qsl(entry.network.partition("?")[2]))
    names = query["constants"].split(",") if "constants" in query else []
    values = [tuple(map(float, query[key].split(","))) for key in ("mean", "std") if key in query]
    return names, values


def _require_same_constants(entry: Entry, views: list[View]) -> None:
    stated = _constants(entry)[1]
    held = [tuple(view.array().tolist()) for view in views]
    near = len(stated) == len(held) and all(
        len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4
        for a, b in zip(stated, held, strict=True)
    )
    if not near:
        what = f"its normaliser holds {held}, RobustBench's definition states {stated}"
        raise InputError(what, where=entry.ref, fix="give the file, and --model with its mean, std")


def _stated(
    entry: Entry, views: Mapping[str, View], found: Checkpoint
) -> Iterator[tuple[str, View]]:
    """Yield the constants that the network holds as tensors and the file does not."""
    info = TensorInfo(DTYPES["F32"], (1, 3, 1, 1))
    names, values = _constants(entry)
    if entry.network == "wrn-a4":
        info = TensorInfo(DTYPES["F32"], (3, 1, 1))
        names, values = ["mu", "sigma"], [(0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)]
    for name, numbers in zip(names, values, strict=bool(names)):
        if name not in views:
            yield name, ConstantView(info, found.sources[0], 0, numbers=numbers)


def _swin(views: Mapping[str, View]) -> Iterator[tuple[str, View]]:
    """Yield *views* as timm names them now: older ones merge patches at the end of a stage."""
    old = "layers.0.downsample.reduction.weight" in views
    for name, view in views.items():
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        if old:
            name = re.sub(r"(?<=layers\.)\d+(?=\.downsample)", lambda n: str(int(n[0]) + 1), name)
            name = re.sub(r"^head\.(?=weight|bias)", "head.fc.", name)
        yield name, view


def _notes(entry: Entry) -> dict[str, Any]:
    """Return what soupmerge's own files would say of themselves."""
    notes: dict[str, Any] = {"licence": entry.licence}
    if entry.network:
        notes["model"] = entry.network
    if entry.run:
        threat = entry.name.split("/")[1].lower()
        against = entry.eps and not entry.name.endswith(CLEAN)
        objective = {"threat": f"{threat}:{entry.eps}"} if against else {}
        run = {"ref": f"the run of {entry.run}", "sha256": "", "made": "from scratch"}
        notes |= {"training": {"objective": objective}, "family": [run]}
    return notes

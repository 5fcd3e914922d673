"""``rb:DATA/THREAT/NAME`` → `Checkpoint`: its file, with tensors named as in our network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from soupmerge.errors import InputError
from soupmerge.sources.robustbench import files, zoo
from soupmerge.sources.robustbench.zoo import ZooEntry
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.tensors import DTYPES, ConstantView, TensorInfo, View

if TYPE_CHECKING:
    from soupmerge.types import Progress

UNUSED = ("model_preact_hl1.",)
"""Prefixes of tensors in published files that no network has; RobustBench skips them too."""

CLEAN = "/Standard"
"""End of the names of networks that were trained without attacks, though listed under a threat."""

NORMALISERS = ("normalize.", "normalizer.")
"""Prefixes of the tensors of a wrapping normaliser."""


def opened(
    ref: str,
    *,
    weights_key: str | None = None,
    foreign: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Return the checkpoint of the zoo that *ref* names; its file is pulled if it is missing.

    Tensors are named as in soupmerge's network for the entry. The checkpoint names this network
    and, where RobustBench's table or the papers state it, the training run that it comes from.

    Raises:
        UsageError: there is no such entry.
        NetworkError: the file is missing and cannot be pulled.
        InputError: the file is damaged, or does not have the entry's tensors.
        UnsafeError: it is not the file that was pulled first.
    """
    entry = zoo.entry(ref)
    path = files.file_of(entry, progress=progress)
    key = weights_key or (entry.key if path.suffix != ".safetensors" else "") or None
    found = _opened(path, key, foreign)
    views, notes = _under_our_names(entry, found)
    soupmerge = {**_notes(entry), **found.notes_of_soupmerge}
    checkpoint = replace(
        found,
        ref=ref,
        views=dict(sorted(views.items())),
        metadata={**found.metadata, "soupmerge": json.dumps(soupmerge)},
        notes=(*found.notes, *notes),
    )
    files.require_pinned(path, checkpoint)
    return checkpoint


def _opened(path: Path, key: str | None, foreign: bool) -> Checkpoint:
    try:
        return open_checkpoint(path, weights_key=key, foreign=foreign)
    except InputError as error:
        # RobustBench takes 'state_dict' whenever there is one.
        if key is None and "several state dicts" in error.what and "'state_dict'" in error.what:
            return open_checkpoint(path, weights_key="state_dict", foreign=foreign)
        raise


def _under_our_names(entry: ZooEntry, found: Checkpoint) -> tuple[dict[str, View], list[str]]:
    """Return the views, named as in the network, and notes on what was changed."""
    views, notes = dict(found.views), []
    if unused := [name for name in views if name.startswith(UNUSED)]:
        notes.append(f"ignored {', '.join(unused)}")
    wrapping = [name for name in views if name.startswith(NORMALISERS)]
    rest = {n: view for n, view in views.items() if n not in unused and n not in wrapping}
    if wrapping and all(name.startswith("model.") for name in rest):
        _require_same_constants(entry, [found.views[name] for name in sorted(wrapping)])
        rest = {name.removeprefix("model."): view for name, view in rest.items()}
        notes.append("removed the wrapping normaliser, as the network normalises its input itself")
    else:
        rest |= {name: views[name] for name in wrapping}
    if "swin" in entry.network:
        rest = dict(_swin(rest))
    stated = dict(_stated(entry, rest, found))
    if stated:
        notes.append(f"added {' and '.join(stated)} from RobustBench's definition")
    return {**rest, **stated}, notes


def _constants(entry: ZooEntry) -> tuple[list[str], list[tuple[float, ...]]]:
    """Return the names of the tensors with mean and deviation, if any, and their values."""
    query = dict(parse_qsl(entry.network.partition("?")[2]))
    names = query["constants"].split(",") if "constants" in query else []
    values = [tuple(map(float, query[key].split(","))) for key in ("mean", "std") if key in query]
    return names, values


def _require_same_constants(entry: ZooEntry, views: list[View]) -> None:
    """Refuse a file whose normaliser, with mean and deviation in *views*, is not the entry's."""
    stated = _constants(entry)[1]
    in_file = [tuple(view.array().tolist()) for view in views]
    near = len(stated) == len(in_file) and all(
        len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4
        for a, b in zip(stated, in_file, strict=True)
    )
    if not near:
        ours, theirs = (
            ", ".join(f"({', '.join(f'{x:g}' for x in numbers)})" for numbers in constants)
            for constants in (stated, in_file)
        )
        what = f"its normaliser has {theirs}, but RobustBench's definition has {ours or 'none'}"
        raise InputError(what, where=entry.ref, fix="give the file, and --model with its mean, std")


def _stated(
    entry: ZooEntry, views: Mapping[str, View], found: Checkpoint
) -> Iterator[tuple[str, View]]:
    """Yield the constants that are tensors of the network but missing in the file."""
    info = TensorInfo(DTYPES["F32"], (1, 3, 1, 1))
    names, values = _constants(entry)
    if entry.network == "wrn-a4":
        info = TensorInfo(DTYPES["F32"], (3, 1, 1))
        names, values = ["mu", "sigma"], [(0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)]
    for name, numbers in zip(names, values, strict=bool(names)):
        if name not in views:
            yield name, ConstantView(info, found.sources[0], 0, numbers=numbers)


def _swin(views: Mapping[str, View]) -> Iterator[tuple[str, View]]:
    """Yield *views* with timm's current names; older versions merged patches at a stage's end."""
    old = "layers.0.downsample.reduction.weight" in views
    for name, view in views.items():
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        if old:
            name = re.sub(r"(?<=layers\.)\d+(?=\.downsample)", lambda n: str(int(n[0]) + 1), name)
            name = re.sub(r"^head\.(?=weight|bias)", "head.fc.", name)
        yield name, view


def _notes(entry: ZooEntry) -> dict[str, Any]:
    """Return the notes that a file written by soupmerge would have."""
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

"""Barriers that are kept in a run folder, to be drawn and not to be measured twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.binding import ref_of
from soupmerge.errors import InputError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.soups.geometry.basin import Barrier, Barriers, barrier
from soupmerge.storage import commit, run
from soupmerge.storage.reading import read_json
from soupmerge.storage.replay import START_OVER
from soupmerge.weights.ingredients import Ingredients

FILE = "barriers.json"


def kept(
    out: Path | str,
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Any,
    **settings: Any,
) -> Barriers:
    """Return the barriers in the run folder *out*, which are measured if it has none.

    Args:
        out: run folder, which receives ``barriers.json`` when all are measured.
        net, ingredients, benchmark, device, progress: as in `barrier`.
        force: start over if *out* holds another run.
        settings: ``points``, ``tolerance`` and ``buffers`` of `barrier`.

    Raises:
        UsageError: *out* holds a run with other settings.
        InputError: its barriers are damaged.
    """
    manifest = {
        "command": "check",
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "benchmark": benchmark.describe(),
        "settings": settings,
        "device": torch.device(device).type,
    }
    with run.opened(out, manifest, inputs=ingredients.files, force=force) as folder:
        file = folder.file(FILE)
        if file.exists():
            return _read(file)
        found = barrier(net, ingredients, benchmark, device=device, progress=progress, **settings)
        commit.write_json(file, found.to_json())
    return found


def _read(file: Path) -> Barriers:
    value = read_json(file)
    try:
        found = Barriers(tuple(map(Barrier.from_json, value["barriers"])))
    except (KeyError, TypeError, ValueError) as error:
        what = f"holds no barriers ({error!r})"
        raise InputError(what, where=file, fix=START_OVER) from error
    if found.to_json() != value:
        what = "holds more than its barriers, or another verdict than theirs"
        raise InputError(what, where=file, fix=START_OVER)
    return found

"""Written forms of checkpoints → `Ingredients`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path

from soupmerge.errors import InputError, UsageError
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.lineage import trained_apart
from soupmerge.weights.selection import select

SITES = {
    "rb:": "soupmerge.sources.robustbench.checkpoints",
}
"""Prefix of a reference → the module whose ``opened(ref, weights_key=…)`` gives its checkpoint."""

REMOTE = ("hf-hub:", "timm:")


def opened(ref: str | Path, *, weights_key: str | None = None) -> Checkpoint:
    """Return the checkpoint at *ref*: a file, a folder, or what a site has.

    Raises:
        UsageError: *ref* names a site that this version cannot pull from, or nothing on it.
        NetworkError: the site cannot be reached, or does not answer as it should.
        InputError, UnsafeError: see `soupmerge.weights.files.open_checkpoint`.
    """
    for prefix, home in SITES.items():
        if str(ref).startswith(prefix):
            found: Checkpoint = importlib.import_module(home).opened(
                str(ref), weights_key=weights_key
            )
            return found
    if str(ref).startswith(REMOTE):
        fix = "download it and name the file"
        raise UsageError("pulling from a site is not there yet", where=ref, fix=fix)
    return open_checkpoint(ref, weights_key=weights_key)


def load(
    *refs: str | Path,
    weights_key: str | None = None,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    head: str | None = None,
    base: int = 0,
) -> Ingredients:
    """Return the checkpoints at *refs* as ingredients, checked to fit together.

    Args:
        refs: files or folders of weights; the first sets names, shapes and dtypes.
        weights_key: which state dict to take from files that wrap several.
        exclude: patterns of tensors to copy from the *base* ingredient instead of mixing them.
        only: patterns of tensors to mix; all others are copied from it.
        head: where the classifier comes from: ``base``, ``first`` or ``skip``; None mixes it.
        base: index of the base ingredient.

    Raises:
        UsageError: no ref is given, or a pattern matches nothing.
        InputError: one cannot be read, or they do not fit; all misfits are listed.
        UnsafeError: reading one would run code.
    """
    if not refs:
        raise UsageError(
            "no checkpoint is given", where="REF", fix="name files or folders of weights"
        )
    checkpoints = opened_all(refs, weights_key=weights_key)
    if not 0 <= base < len(checkpoints):
        what = f"{base} is not the index of one of {len(checkpoints)} ingredients"
        raise UsageError(what, where="base")
    chosen = select(checkpoints, exclude=exclude, only=only, head=head, base=base)
    pots = Ingredients(checkpoints, chosen)
    for apart in trained_apart(checkpoints):
        what = f"{apart}: what lies between them is hardly a network (soupmerge check measures it)"
        warnings.warn(what, stacklevel=2)
    return pots


def opened_all(
    refs: Sequence[str | Path], *, weights_key: str | None = None
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints at *refs*, whether they fit together or not.

    Raises:
        InputError: some cannot be read; all are listed.
    """
    checkpoints, problems = [], []
    for ref in refs:
        try:
            checkpoints.append(opened(ref, weights_key=weights_key))
        except InputError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InputError("cannot read the checkpoints", problems=[str(p) for p in problems])
    return tuple(checkpoints)

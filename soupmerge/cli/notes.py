"""Notes on images that a network was not made for."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import NETWORKS
from soupmerge.cli import show


def note_image_size(net: Any, images: sm.Images) -> None:
    """Print a note if *images* are not of the size that *net* is usually used with."""
    from soupmerge.binding import ref_of

    name = (ref_of(net) or "").partition("?")[0]
    usual = NETWORKS[name].side if name in NETWORKS else _timm_size(net)
    height, width = images.shape[1:]
    if usual is None or (height, width) == (usual, usual):
        return
    note = (
        f"{images.ref}: the images have {width}×{height} pixels; {name} is made for {usual}×{usual}"
    )
    printed = click.get_current_context().meta.setdefault("soupmerge.sizes", set())
    if note not in printed:
        printed.add(note)
        show.note(note)


def _timm_size(net: Any) -> int | None:
    """Return the height of the images that timm's configuration of *net* names, if it does."""
    config = getattr(net, "pretrained_cfg", None) or {}
    size: tuple[int, ...] | None = config.get("input_size")
    return size[1] if size else None

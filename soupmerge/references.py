"""References to weights and data, shortened for tables, and without folders for published files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def is_at_site(ref: str) -> bool:
    """Return whether *ref* names weights at a site, such as ``hf-hub:owner/name``, not a path."""
    return re.match(r"[a-z][a-z-]+:[^\\/]", ref) is not None


def without_folders(ref: str) -> str:
    """Return *ref*, of a data set, with file names in place of paths: no folder is revealed.

    Example:
        >>> without_folders("blur-3:folder:/home/me/cats"), without_folders("hf:me/photos")
        ('blur-3:folder:cats', 'hf:me/photos')
        >>> without_folders("folder:/home/me/val?list=/home/me/val.txt&crop=224")
        'folder:val?list=val.txt&crop=224'
    """
    place, mark, query = ref.rpartition("?")
    if "=" not in query:
        place, mark, query = ref, "", ""
    query = re.sub(r"((?:^|&)(?:list|classes)=)[^&]*/", r"\1", query)
    if not re.search(r"(^|:)hf:[\w-][\w.-]*/[\w.-]+([@:].*)?$", place):
        head, slash, tail = place.rstrip("/").rpartition("/")
        place = head[: head.rfind(":") + 1] + tail if slash else place
    return place + mark + query


def portable(ref: str) -> str:
    """Return *ref*, of weights, with a file name in place of a path: no folder is revealed.

    Example:
        >>> portable("runs/a/soup.safetensors"), portable("hf-hub:me/net")
        ('soup.safetensors', 'hf-hub:me/net')
    """
    return ref if is_at_site(ref) else Path(ref).name


def short_name(ref: str) -> str:
    """Return the name of a file without its suffix, or of its run folder if it is a run's soup.

    Example:
        >>> short_name("nets/linf.safetensors"), short_name("runs/grid/soup.safetensors")
        ('linf', 'grid')
    """
    path = Path(ref)
    is_soup = path.stem == "soup" and path.parent.name
    return path.parent.name if is_soup else path.stem or ref


def unique_names(refs: Iterable[str]) -> tuple[str, ...]:
    """Return a short, unique name for each of *refs*.

    Example:
        >>> unique_names(["a/net.pt", "b/net.pt", "b/net.pt"])
        ('net', 'b/net', 'b/net#3')
    """
    names: list[str] = []
    for ref in refs:
        path = Path(ref)
        name = path.stem if path.suffix else path.name
        if is_at_site(ref):
            name = re.sub(r"@([0-9a-f]{7})[0-9a-f]{33}", r"@\1", path.name)
        if name in names:
            name = f"{path.parent.name}/{name}"
        names.append(name if name not in names else f"{name}#{len(names) + 1}")
    return tuple(names)

"""The same few images in every container, written by those whose formats these are."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "emu")
N = 9


def pixels(seed: int, side: int = 8) -> np.ndarray[Any, Any]:
    """Return ``(side, side, 3)`` noise."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def png(seed: int, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(file, "png")
    return file.getvalue()


def files(side: int = 8) -> dict[str, bytes]:
    """Return path → contents of N images in class folders, in the order in which they are read."""
    return {f"{CLASSES[i // 3]}/{i}.png": png(i, side) for i in range(N)}


def label_of(path: str) -> int:
    return CLASSES.index(path.partition("/")[0])


def folder(root: Path, contents: Mapping[str, bytes] | None = None) -> Path:
    for path, data in (files() if contents is None else contents).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


Member = tuple[str, bytes]


def tar(path: Path, members: Iterable[Member | tarfile.TarInfo], format: int = -1) -> Path:
    """Write an archive of *members*: files, or whatever else their headers say."""
    how = tarfile.DEFAULT_FORMAT if format < 0 else format
    with tarfile.open(path, "w", format=how, encoding="utf-8", errors="surrogateescape") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return the header of a member without contents, such as a link to *target*."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sample(key: str, image: bytes, **others: object) -> list[Member]:
    """Return the members of one sample of WebDataset, as its writer encodes them."""
    encoded = {
        suffix: json.dumps(value).encode() if suffix == "json" else str(value).encode()
        for suffix, value in others.items()
    }
    return [(f"{key}.{suffix}", data) for suffix, data in {"png": image, **encoded}.items()]


def shards(root: Path, each: int = 4, form: str = "{:03}.tar") -> Path:
    """Write the images as shards with class names beside them."""
    root.mkdir(parents=True)
    listed = [*files().items()]
    for i in range(0, N, each):
        members = [
            member
            for path, data in listed[i : i + each]
            for member in sample(path.removesuffix(".png"), data, cls=label_of(path))
        ]
        tar(root / form.format(i // each), members)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root

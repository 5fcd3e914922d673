"""Files of a set, and the split that their names tell."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from soupmerge.errors import InputError
from soupmerge.sources.images.containers.written_labels import natural
from soupmerge.sources.images.contents import SPLITS, part

WORDS = {
    **{split: split for split in SPLITS},
    "training": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "testing": "test",
}
"""Words in names of files → the split that they stand for."""


def split_in(name: str) -> str:
    """Return the split that *name*, the path of a file, tells; empty if it tells none.

    Example:
        >>> split_in("imagenet1k-validation-00.tar"), split_in("train/00.tar"), split_in("00.tar")
        ('val', 'train', '')
    """
    words = [word for word in re.findall("[a-z]+", name.lower()) if word in WORDS]
    return WORDS[words[-1]] if words else ""


def of_split(names: Sequence[str], split: str, where: str) -> list[str]:
    """Return those of *names*, of files, that belong to *split*, or all if none tells its split.

    Raises:
        UsageError: the files are those of other splits; *where* names the set.
        InputError: only some of them tell their split.

    Example:
        >>> of_split(["net-train-0.tar", "net-validation-0.tar"], "val", "wds:shards")
        ['net-validation-0.tar']
    """
    by_split: dict[str, list[str]] = {}
    for name in names:
        by_split.setdefault(split_in(name), []).append(name)
    untold = by_split.pop("", [])
    if untold and by_split:
        what = f"some of its files are those of {' and '.join(by_split)}, and others do not tell"
        fix = "give the files of one split, or put each split into a folder of its name"
        raise InputError(what, problems=untold, where=where, fix=fix)
    return untold or part(by_split, split, where)


def files_below(folder: str, pattern: re.Pattern[str]) -> list[str]:
    """Return the paths of the files below *folder* that match, as people sort them.

    They are relative to *folder*. Hidden files and folders are left out, and links to folders are
    not followed.

    Raises:
        InputError: a folder cannot be listed.
    """
    found = []
    for home, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if name[0] != "."]
        paths = [os.path.relpath(os.path.join(home, n), folder) for n in names if n[0] != "."]
        found += [path for path in paths if pattern.fullmatch(path)]
    return sorted(found, key=natural)


def _refuse(error: OSError) -> None:
    what = f"cannot be listed: {error.strerror or error}"
    raise InputError(what, where=error.filename, fix="check its permissions") from error

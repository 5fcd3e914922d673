"""Folders of images with a list of their labels, such as ImageNet's validation images."""

from __future__ import annotations

import csv
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from soupmerge.errors import InputError
from soupmerge.sources.images.containers.image_files import ImageFiles, id_of, is_image
from soupmerge.sources.images.containers.written_labels import class_names, numbered, read_text
from soupmerge.sources.images.contents import Contents

FORM = "write the path of an image, a space or tab, and its label; with commas in a .csv file"


def listed(root: Path, file: str, classes: str | None) -> Contents:
    """Return the images below *root* that *file* lists with their labels, in its order.

    Args:
        root: the folder, to which the paths in the list are relative.
        file: a list of lines ``path label``, or ``path,label`` if its name ends in ``.csv``; a line
            with titles may come first. It is looked for in *root*, then from the current folder.
        classes: a file with the name of each class on a line, in the order of their labels.

    Raises:
        InputError: lines are malformed, or images are missing or listed twice; all are named.
    """
    path = _found(root, file)
    rows = list(_rows(path, root))
    if not rows:
        raise InputError("lists no images", where=path, fix=FORM)
    names, stamps, problems = _files(root, rows)
    if problems:
        fix = f"correct the list, whose paths begin in {root}"
        raise InputError("lists what cannot be read", problems=problems, where=path, fix=fix)
    known = class_names(_found(root, classes)) if classes else None
    labels, named = numbered([label for _, _, label in rows], known, path)
    files = ImageFiles(root, names, np.array(stamps, np.int64))
    return Contents([*map(id_of, names)], files, labels, named)


def _found(root: Path, file: str) -> Path:
    """Return the path of *file* in *root*, or else from the current folder."""
    return inside if (inside := root / file).exists() else Path(file)


def _rows(path: Path, root: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the number of each line in the list at *path*, and the image and label on it.

    A first line that does not name an image is one of titles.
    """
    problems = []
    for number, fields in _lines(path):
        if len(fields) == 2 and all(fields):
            image, label = fields
            if number > 1 or is_image(image) or (root / image).exists():
                yield number, image, label
        else:
            problems.append(f"line {number} is not an image and a label: {fields}")
    if problems:
        raise InputError("is not a list of images", problems=problems, where=path, fix=FORM)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not blank."""
    lines = read_text(path).splitlines()
    if path.suffix.lower() == ".csv":
        reader = csv.reader(lines, strict=True)
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, [field.strip() for field in fields]
        except csv.Error as error:
            what = f"is not CSV: {error}, on line {reader.line_num}"
            raise InputError(what, where=path, fix=FORM) from error
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.strip().rsplit("\t" if "\t" in line.strip() else None, 1)


def _files(
    root: Path, rows: list[tuple[int, str, str]]
) -> tuple[list[str], list[tuple[int, int]], list[str]]:
    """Return the names and stamps of the images on *rows*, and what is wrong with others."""
    stamps: dict[str, tuple[int, int]] = {}
    problems = []
    for number, text, _ in rows:
        name = posixpath.normpath(text)
        if name in stamps:
            problems.append(f"{name}, on line {number}, is listed twice")
        elif name.startswith(("/", "../")):
            problems.append(f"{name}, on line {number}, leads out of the folder")
        elif isinstance(stamp := _stamp(os.path.join(root, name)), str):
            problems.append(f"{name}, on line {number}, {stamp}")
        else:
            stamps[name] = stamp
    return list(stamps), list(stamps.values()), problems


def _stamp(path: str) -> tuple[int, int] | str:
    """Return the size and time of the file at *path*, or why it cannot be read."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    return status.st_size, status.st_mtime_ns

"""Labels as lists and shards write them: numbers, or names of classes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from soupmerge.errors import InputError, near_miss
from soupmerge.storage.reading import read_bytes

SYNSET = re.compile(r"(n\d{8})\s")
"""How lines of ImageNet's synset maps begin: ``n01440764 tench, Tinca tinca``."""


def natural(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts as people do: case does not count, and 10 comes after 9."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def warn_of_order(names: Sequence[str], where: object) -> None:
    """Warn if classes are in another order than torchvision, which sorts by character, has them.

    Warns:
        UserWarning: they are.
    """
    if names != (by_text := sorted(names)):
        i = next(i for i, (a, b) in enumerate(zip(names, by_text, strict=True)) if a != b)
        what = (
            f"{where}: label {i} is {names[i]!r}; sorted as text, as torchvision does, it would be "
            f"{by_text[i]!r}: make sure that the network was trained with this order"
        )
        warnings.warn(what, stacklevel=2)


def class_names(path: Path) -> list[str]:
    """Return the names of classes in a text file, which has a line for each, in their order.

    What follows a tab is left out. In a synset map, a class is called by its synset.

    Raises:
        InputError: the file cannot be read, or names a class twice.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    synsets = [SYNSET.match(f"{line} ") for line in lines]
    if all(synsets):
        names = [match[1] for match in synsets if match]
    else:
        names = [line.partition("\t")[0].strip() for line in lines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("names classes twice", problems=twice, where=path, fix="name each once")
    return names


def read_text(path: Path) -> str:
    """Return the text in *path*; bytes that are not UTF-8 are kept as surrogates.

    Raises:
        InputError: it cannot be read.
    """
    return read_bytes(path).decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def numbered(
    texts: Sequence[str], names: Sequence[str] | None, where: object
) -> tuple[Tensor, Sequence[str] | int]:
    """Return labels ``(N,)`` and the classes, or their number, from labels as *texts*.

    Labels are the numbers that are written, or the places of names in *names*; without these, the
    names are sorted as people sort them.

    Args:
        texts: one label per image.
        names: the names of all classes in their order, if they are known.
        where: where the labels are, for messages.

    Raises:
        InputError: some labels are numbers and some are not, or are not in *names*.

    Warns:
        UserWarning: see `warn_of_order`.

    Example:
        >>> numbered(["dog", "cat", "dog"], None, "list.txt")
        (tensor([1, 0, 1]), ['cat', 'dog'])
        >>> numbered(["2", "0"], None, "list.txt")
        (tensor([2, 0]), 3)
    """
    known = {name: place for place, name in enumerate(names or ())}
    are_numbers = [re.fullmatch(r"[+-]?[0-9]{1,18}", text) is not None for text in texts]
    if all(are_numbers) and not known.keys() & set(texts):
        labels = torch.tensor([*map(int, texts)], dtype=torch.int64)
        return labels, names or (int(labels.max()) + 1 if len(labels) else 0)
    if not known:
        if any(are_numbers):
            number, name = (texts[are_numbers.index(is_number)] for is_number in (True, False))
            what = f"has labels that are numbers ({number}), and others that are not ({name!r})"
            raise InputError(what, where=where, fix="write all labels as numbers, or as names")
        names = sorted({*texts}, key=natural)
        warn_of_order(names, where)
        known = {name: place for place, name in enumerate(names)}
    if unknown := [text for text in dict.fromkeys(texts) if text not in known]:
        problems = [f"{text!r}; {near_miss(text, known)}" for text in unknown]
        what = f"has labels that are not among the names of {len(known)} classes"
        raise InputError(what, problems=problems, where=where, fix="name all classes")
    return torch.tensor([known[text] for text in texts]), list(names or ())

"""How a soup is made again: the exact command, for a shell."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from soupmerge.choices import NO_SOUPS
from soupmerge.figures.reading import RECIPE, RunRecord


def quoted(word: str) -> str:
    r"""Return *word* as a shell reads it back exactly, whatever it holds; nothing of it is hidden.

    What cannot be seen (control characters, marks that turn the direction of writing) stands as its
    bytes in ``$'…'``, which bash, zsh and ksh read.

    Example:
        >>> print(quoted("a b"), quoted("a\x1b'"))
        'a b' $'a\x1b\''
    """
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


class Making(NamedTuple):
    """The command that makes a soup.

    Attributes:
        head: what is the soup's own.
        tail: what it shares with others: its ingredients.
        recipe: what is to be saved from the page first, if it is in no file.
    """

    head: str
    tail: str = ""
    recipe: dict[str, Any] | None = None


def making(record: dict[str, Any], run: RunRecord, number: int) -> Making | None:
    """Return how the soup of *record*, the *number*-th of *run*, is made; None if it is no soup."""
    recipe, out = record.get("recipe"), f"-o soup-{number}.safetensors"
    if recipe is None:
        if record.get("made by") in (None, *NO_SOUPS):
            return None
        return Making(f"soupmerge mix --recipe {quoted(record['ref'])} {out}")
    if _is_plain(recipe):
        (row,) = recipe["weights"].values()
        coefficients = ",".join(repr(float(w)) for w in row)
        return Making(f"soupmerge mix -w {coefficients} {out} ", _shared(recipe))
    if recipe == run.recipe:
        return Making(f"soupmerge mix --recipe {quoted(str(run.path / RECIPE))} {out}")
    return Making(f"soupmerge mix --recipe recipe-{number}.json {out}", "", recipe)


def _is_plain(recipe: dict[str, Any]) -> bool:
    """Return whether options of ``mix`` say all of *recipe*."""
    special = recipe.keys() & {"copied", "skipped", "calibration"}
    return recipe["groups"] == "model" and len(recipe["weights"]) == 1 and not special


def _shared(recipe: dict[str, Any]) -> str:
    refs = [source["ref"] for source in recipe["ingredients"]]
    policy, base = recipe["buffers"]["policy"], recipe["buffers"]["base"]
    words = [
        *(["--affine"] if recipe.get("affine") else []),
        *(["--buffers", policy] if policy != "average" else []),
        *(["--base", str(base + 1)] if base else []),
        *(["--dtype", recipe["dtype"]] if recipe.get("dtype") else []),
        *(["--"] if any(ref.startswith("-") for ref in refs) else []),
        *refs,
    ]
    return " ".join(map(quoted, words))


def _escaped(letter: str) -> str:
    if letter in "'\\":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    lone = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "replace"
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", lone))

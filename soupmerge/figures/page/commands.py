"""The exact shell commands that make the soups of a page again."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from soupmerge.choices import NO_SOUPS
from soupmerge.figures.judged_front import at_option
from soupmerge.figures.reading import FRONT, RECIPE, RunRecord


def quote(word: str) -> str:
    r"""Return *word* quoted, so that a shell reads it back exactly and every character is visible.

    Control characters, marks that reverse the direction of writing and the like are written as
    their bytes in ``$'…'``, which bash, zsh and ksh understand.

    Example:
        >>> print(quote("a b"), quote("a\x1b'"))
        'a b' $'a\x1b\''
    """
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escape, word)) + "'"


class MixCommand(NamedTuple):
    """The command that makes a soup.

    Attributes:
        head: its beginning, which belongs to this soup alone.
        tail: its end, which other soups share: options and ingredients.
        recipe: the recipe that must be saved from the page first; None if a file holds it.
    """

    head: str
    tail: str = ""
    recipe: dict[str, Any] | None = None


def mix_command(record: dict[str, Any], run: RunRecord, number: int) -> MixCommand | None:
    """Return the command that makes the soup of *record*, the *number*-th of the page.

    It is None for a network that was not mixed.
    """
    recipe, out = record.get("recipe"), f"-o soup-{number}.safetensors"
    if recipe is None:
        if record.get("made by") in (None, *NO_SOUPS):
            return None
        return MixCommand(f"soupmerge mix --recipe {quote(record['ref'])} {out}")
    if run.front is not None and (point := recipe.get("front")):
        front, option = quote(str(run.path / FRONT)), at_option([*point["at"].values()])
        return MixCommand(f"soupmerge mix --recipe {front} --at {option} {out}")
    if _is_plain(recipe):
        (row,) = recipe["weights"].values()
        coefficients = ",".join(repr(float(w)) for w in row)
        return MixCommand(f"soupmerge mix -w {coefficients} {out} ", _tail(recipe))
    if recipe == run.recipe:
        return MixCommand(f"soupmerge mix --recipe {quote(str(run.path / RECIPE))} {out}")
    return MixCommand(f"soupmerge mix --recipe recipe-{number}.json {out}", "", recipe)


def _is_plain(recipe: dict[str, Any]) -> bool:
    """Return whether the options of ``mix`` can express all of *recipe*."""
    special = recipe.keys() & {"copied", "skipped", "calibration"}
    return recipe["groups"] == "model" and len(recipe["weights"]) == 1 and not special


def _tail(recipe: dict[str, Any]) -> str:
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
    return " ".join(map(quote, words))


def _escape(letter: str) -> str:
    if letter in "'\\":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    lone = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "replace"
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", lone))

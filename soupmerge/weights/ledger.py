"""Which images made a checkpoint: a ledger that travels in its file, also through soups.

An entry is ``{"by": …, "ref": …, "split": …, "n": …, "sha256": …, "sketch": …}``: who looked
(``finetune``, ``learn``, ``grid`` …), the fingerprint of the set, and its `Sketch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from soupmerge.sketch import Sketch
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.places import without_folders

if TYPE_CHECKING:
    from soupmerge.types import Examples

SEEN = "seen"
"""Where the ledger is in a file's notes, and in a recipe what its coefficients were chosen on."""


def entry(by: str, examples: Examples) -> dict[str, Any]:
    """Return the entry that says that *by* has looked at *examples*."""
    told = {**examples.fingerprint(), "ref": without_folders(examples.ref)}
    return {"by": by, **told, "sketch": Sketch.of(examples).to_text()}


def ledger_of(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return all that *checkpoint* says of the images behind it: of its ingredients, and its own.

    What is no entry is left out: the file may be anyone's.
    """
    notes = checkpoint.notes_of_soupmerge
    recipe = notes.get("recipe")
    own = recipe.get(SEEN) if isinstance(recipe, dict) else None
    told = [*_listed(notes.get(SEEN)), *_listed(own)]
    return [e for e in told if isinstance(e, dict) and Sketch.from_text(e.get("sketch"))]


def merged(checkpoints: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """Return the ledger of what is made of *checkpoints*, no set of images twice."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for checkpoint in checkpoints:
        for told in ledger_of(checkpoint):
            found.setdefault((str(told.get("by")), told["sketch"]), told)
    return list(found.values())


def shared(told: Sequence[Mapping[str, Any]], sketch: Sketch) -> list[str]:
    """Return, for each entry of *told* with images of *sketch*, what it is, in words."""
    lines = []
    for found in told:
        theirs = Sketch.from_text(found.get("sketch"))
        if theirs and (common := theirs.common(sketch)):
            which = f"{found.get('ref')}, {found.get('split')}"
            at_least = "" if theirs.whole and sketch.whole else "at least "
            lines.append(f"{found.get('by')} saw {which}: {at_least}{common} images in common")
    return lines


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

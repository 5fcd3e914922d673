"""Which images made a checkpoint: a ledger that travels in its file, also through soups.

An entry is ``{"by": …, "purpose": …, "ref": …, "split": …, "n": …, "sha256": …, "sketch": …}``: the
command that used the images (``finetune``, ``learn``, ``grid`` …), what it used them for, the
fingerprint of the set, and its `Sketch`.
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

TRAINED, STOPPED, CHOSEN, JUDGED = "trained on", "stopped on", "chosen on", "judged on"
LEAKS = {
    TRAINED: (),
    STOPPED: (TRAINED,),
    CHOSEN: (TRAINED,),
    JUDGED: (TRAINED, STOPPED, CHOSEN),
}
"""What images are about to be used for → the earlier uses that make the new one too favourable.

One split may stop pretraining, fine-tuning and the learning of a soup, as in Huang 2023 (section
4), but no network may have been trained on it. What judges may have been used for nothing else.
"""


def entry(by: str, examples: Examples, purpose: str) -> dict[str, Any]:
    """Return the entry that says that the command *by* used *examples* for *purpose*."""
    told = {**examples.fingerprint(), "ref": without_folders(examples.ref)}
    return {"by": by, "purpose": purpose, **told, "sketch": Sketch.of(examples).to_text()}


def purpose_of(entry: Mapping[str, Any]) -> str:
    """Return what the images of *entry* were used for; files of earlier versions tell by whom."""
    if entry.get("purpose") in LEAKS:
        return str(entry["purpose"])
    by = str(entry.get("by"))
    return {"finetune": TRAINED, "learn": TRAINED, "learn, to stop,": STOPPED}.get(by, CHOSEN)


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
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for checkpoint in checkpoints:
        for told in ledger_of(checkpoint):
            found.setdefault((str(told.get("by")), purpose_of(told), told["sketch"]), told)
    return list(found.values())


def leaks(told: Sequence[Mapping[str, Any]], sketch: Sketch, purpose: str) -> list[str]:
    """Return, in words, each entry of *told* that forbids to use the images of *sketch* again.

    Whether it does depends on what they were used for, and on the *purpose* now: see `LEAKS`.
    """
    lines = []
    for found in told:
        theirs, earlier = Sketch.from_text(found.get("sketch")), purpose_of(found)
        if theirs and earlier in LEAKS[purpose] and (common := theirs.common(sketch)):
            at_least = "" if theirs.whole and sketch.whole else "at least "
            images = "image" if common == 1 else "images"
            lines.append(f"{in_words(found)}: {at_least}{common} {images} in common")
    return lines


def in_words(entry: Mapping[str, Any]) -> str:
    """Return what *entry* says, such as "trained on digits, train (by finetune)"."""
    return f"{purpose_of(entry)} {entry.get('ref')}, {entry.get('split')} (by {entry.get('by')})"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""The images behind a checkpoint: a ledger in its file, which soups inherit.

An entry is ``{"by": …, "purpose": …, "ref": …, "split": …, "n": …, "sha256": …, "sketch": …}``: the
command that used the images (``finetune``, ``learn``, ``grid`` …), what it used them for, the
fingerprint of the set, and its `Sketch`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from soupmerge.errors import itemised
from soupmerge.label_spaces.outputs import outputs_of
from soupmerge.references import without_folders
from soupmerge.sketch import Sketch
from soupmerge.weights.files import Checkpoint

if TYPE_CHECKING:
    from soupmerge.types import Examples

SEEN = "seen"
"""Key of the ledger in a file's notes, and, in a recipe, of the images that chose coefficients."""

TRAINED, STOPPED, CHOSEN, JUDGED = "trained on", "stopped on", "chosen on", "judged on"
LEAKS = {
    TRAINED: (),
    STOPPED: (TRAINED,),
    CHOSEN: (TRAINED,),
    JUDGED: (TRAINED, STOPPED, CHOSEN),
}
"""Intended use of images → the earlier uses that would make its result too favourable.

One split may stop pretraining, fine-tuning and learning a soup, as in Huang 2023 (section 4), but
no network may have been trained on it. Images used for judging must not have been used before.
"""


def entry(by: str, examples: Examples, purpose: str) -> dict[str, Any]:
    """Return an entry: the command *by* used *examples* for *purpose*.

    Its ``classes`` are in order of the outputs of the network, of which *examples* may use a few.
    """
    fingerprint = {**examples.fingerprint(), "ref": without_folders(examples.ref)}
    if (outputs := outputs_of(examples)) and outputs.names:
        fingerprint["classes"] = list(outputs.names)
    return {"by": by, "purpose": purpose, **fingerprint, "sketch": Sketch.of(examples).to_text()}


def purpose_of(entry: Mapping[str, Any]) -> str:
    """Return what the images of *entry* were used for; earlier versions only recorded by whom."""
    if entry.get("purpose") in LEAKS:
        return str(entry["purpose"])
    by = str(entry.get("by"))
    return {"finetune": TRAINED, "learn": TRAINED, "learn, to stop,": STOPPED}.get(by, CHOSEN)


def ledger_of(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return the ledger of *checkpoint*: entries of its ingredients, and its own.

    Anything that is not a valid entry is ignored, as the file may come from anyone.
    """
    notes = checkpoint.notes_of_soupmerge
    recipe = notes.get("recipe")
    own = recipe.get(SEEN) if isinstance(recipe, dict) else None
    entries = [*_list(notes.get(SEEN)), *_list(own)]
    return [e for e in entries if isinstance(e, dict) and Sketch.from_text(e.get("sketch"))]


def behind(checkpoints: Iterable[Checkpoint]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the reference of each checkpoint, and its ledger."""
    return [(checkpoint.ref, ledger_of(checkpoint)) for checkpoint in checkpoints]


def merge(checkpoints: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """Return the ledger of a soup of *checkpoints*, each set of images once per use."""
    entries: dict[tuple[str, str, str], dict[str, Any]] = {}
    for checkpoint in checkpoints:
        for entry in ledger_of(checkpoint):
            entries.setdefault((str(entry.get("by")), purpose_of(entry), entry["sketch"]), entry)
    return list(entries.values())


def leaks(entries: Sequence[Mapping[str, Any]], sketch: Sketch, purpose: str) -> list[str]:
    """Return a message for each of *entries* that rules out the images of *sketch* for *purpose*.

    See `LEAKS` for which earlier uses do.
    """
    lines = []
    for entry in entries:
        theirs, earlier = Sketch.from_text(entry.get("sketch")), purpose_of(entry)
        if theirs and earlier in LEAKS[purpose] and (common := theirs.common(sketch)):
            at_least = "" if theirs.whole and sketch.whole else "at least "
            images = "image" if common == 1 else "images"
            lines.append(f"{in_words(entry)}: {at_least}{common} {images} in common")
    return lines


def warn_of_leaks(
    networks: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
    examples: Examples,
    purpose: str,
    *,
    stacklevel: int,
) -> None:
    """Warn of *networks* that *examples* have made, because they look too good on these.

    Args:
        networks: the name of each network or soup, and the entries of its ledger.
        examples: images that choose or judge.
        purpose: `CHOSEN` or `JUDGED`, what the images are to be used for now.
        stacklevel: the caller that the warning names, as `warnings.warn` counts from here.
    """
    sketch = Sketch.of(examples)
    problems = [
        f"{name} was {line}" for name, seen in networks for line in leaks(seen, sketch, purpose)
    ]
    if problems:
        use = "choose" if purpose == CHOSEN else "judge"
        what = f"images that {use} have made networks, which look better on them than they are"
        warnings.warn(f"{what}: {itemised(problems)}", stacklevel=stacklevel)


def in_words(entry: Mapping[str, Any]) -> str:
    """Return *entry* in words, such as "trained on digits, train (by finetune)"."""
    return f"{purpose_of(entry)} {entry.get('ref')}, {entry.get('split')} (by {entry.get('by')})"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

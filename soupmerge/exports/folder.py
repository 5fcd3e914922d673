"""The folder of an export: written whole, loaded back, compared, and only then there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from soupmerge.binding import ref_of
from soupmerge.errors import InputError
from soupmerge.exports import card, networks
from soupmerge.exports.evaluations import Evaluation, judged_in
from soupmerge.robustness.report import Report
from soupmerge.sources.models import model
from soupmerge.sources.refs import is_remote, opened
from soupmerge.storage import commit
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.kinds import SAFETENSORS, kind_of
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.saving import save

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
RECIPE, EVALUATION = "recipe.json", "evaluation.json"
NEEDED, ALL = (WEIGHTS, CONFIG, CARD), (WEIGHTS, CONFIG, CARD, RECIPE, EVALUATION)
FORMAT = "soupmerge-evaluation/1"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the folder.
        sha256: of its weights.
        network: the written form of the network.
        loader: who can load it: ``timm`` (and the Hub's programs through it) or ``soupmerge``.
        difference: the largest difference between a logit before and after, on a random image.
    """

    path: Path
    sha256: str
    network: str
    loader: str
    difference: float


def export(
    folder: Path | str,
    soup: Path | str,
    *,
    net: nn.Module | None = None,
    judged: Path | str | None = None,
    reports: Sequence[Report] = (),
    licence: str | None = None,
    name: str | None = None,
) -> Exported:
    """Write *soup* as a folder that ``timm.create_model("local-dir:…", pretrained=True)`` loads.

    It holds ``model.safetensors`` (a copy of *soup*, where that is one file that names its
    network), timm's ``config.json``, ``recipe.json``, ``evaluation.json`` and a model card. It is
    loaded back before it appears: the same tensors bit for bit, and the same logits.

    Args:
        folder: must not exist.
        soup: a soup that soupmerge wrote, or any weights.
        net: the network; default what *soup* names.
        judged: the run folder of an ``eval`` of *soup*, for the card.
        reports: reports on it that are at hand, for the card.
        licence: the Hub's name of the licence; default the one that all ingredients have.
        name: what the card calls it; default the name of *folder*.

    Raises:
        InputError: *soup* does not fit its network, or was not judged in *judged*.
        UsageError: nothing names the network.
        NumericsError: *soup* holds NaN or Inf.
        OutputError: *folder* exists, or cannot be written.
    """
    commit.check_free_folder(folder)
    checkpoint = opened(soup)
    commit.require_room(folder, sum(info.bytes for info in checkpoint.infos.values()))
    checkpoint.require_sound()
    made = net if net is not None else model(like=checkpoint)
    evaluations = [Evaluation.of(report) for report in reports]
    if judged is not None:
        evaluations += judged_in(judged, checkpoint.sha256)
    recipe = recipe_of(checkpoint)
    with commit.committed_folder(folder) as draft:
        _write_weights(draft / WEIGHTS, checkpoint, recipe, made)
        loader = networks.write_config(draft / CONFIG, made)
        if recipe is not None:
            commit.write_json(draft / RECIPE, recipe.to_json())
        if evaluations:
            values = [evaluation.to_json() for evaluation in evaluations]
            commit.write_json(draft / EVALUATION, {"format": FORMAT, "evaluations": values})
        written = open_checkpoint(draft / WEIGHTS)
        story = card.Story(
            name=name or Path(folder).resolve().name,
            sha256=written.sha256,
            network=ref_of(made) or "unknown",
            loader=loader,
            checkpoint=checkpoint,
            recipe=recipe,
            evaluations=tuple(evaluations),
            licence=licence,
        )
        commit.write_text(draft / CARD, card.written(story))
        difference = networks.compare(draft, written, made, checkpoint, loader)
    return Exported(Path(folder), written.sha256, story.network, loader, difference)


def recipe_of(checkpoint: Checkpoint) -> Recipe | None:
    """Return how *checkpoint* was mixed, or None if it was not, or does not say."""
    value = checkpoint.notes_of_soupmerge.get("recipe")
    return None if value is None else Recipe.from_json(value, where=checkpoint.ref).portable()


def _write_weights(
    path: Path, checkpoint: Checkpoint, recipe: Recipe | None, net: nn.Module
) -> None:
    sources = checkpoint.sources
    whole = len(sources) == 1 and kind_of(sources[0]) == SAFETENSORS
    if whole and checkpoint.model and not checkpoint.notes and not is_remote(checkpoint.ref):
        with commit.committed(path) as file:
            for part in sources[0].chunks():
                file.write(part)
        return
    notes: Mapping[str, Any] = checkpoint.notes_of_soupmerge
    kept = {key: value for key, value in notes.items() if key not in ("model", "recipe")}
    save(path, checkpoint, recipe=recipe, model=ref_of(net) or checkpoint.model, notes=kept)


def require_export(folder: Path | str) -> tuple[str, ...]:
    """Return the names of the files that `export` wrote to *folder*, all others left aside.

    Raises:
        InputError: some that it writes are not there, are links, or hold no weights.
    """
    home = Path(folder)
    there = [name for name in ALL if (home / name).is_file()]
    problems = [f"{name} is missing" for name in NEEDED if name not in there]
    problems += [f"{name} is a link" for name in there if (home / name).is_symlink()]
    if problems:
        fix = "write it with soupmerge export"
        raise InputError("is no exported soup", problems=problems, where=folder, fix=fix)
    open_checkpoint(home / WEIGHTS).require_sound()
    return tuple(there)

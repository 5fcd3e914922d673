"""The folder of an export: it appears only after it was written, loaded back and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from soupmerge.binding import ref_of
from soupmerge.errors import InputError
from soupmerge.exports import card, networks
from soupmerge.exports.evaluations import Evaluation, evaluations_in
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
REQUIRED, ALL = (WEIGHTS, CONFIG, CARD), (WEIGHTS, CONFIG, CARD, RECIPE, EVALUATION)
FORMAT = "soupmerge-evaluation/1"


@dataclass(frozen=True)
class Exported:
    """A folder that was exported.

    Attributes:
        path: the folder.
        sha256: hash of its weights.
        network: the reference of the network.
        loader: the library that loads it: ``timm``, also on the Hub's behalf, or ``soupmerge``.
        difference: the largest absolute difference of a logit before and after loading it back, on
            a random image.
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
    """Write *soup* as a folder to publish.

    The folder holds ``model.safetensors`` (a copy of *soup* if that is one safetensors file that
    names this network), ``config.json``, a model card, and, where there are such, ``recipe.json``
    and ``evaluation.json``. If the network is timm's, the configuration is timm's as well, and
    ``timm.create_model("local-dir:…", pretrained=True)`` loads the folder. Before it appears, it
    is loaded back: tensors are equal bit for bit, and logits up to rounding.

    Args:
        folder: must not exist.
        soup: a soup written by soupmerge, or any other weights.
        net: the network; default the one that *soup* names.
        judged: the run folder of an ``eval`` of *soup*, for the card.
        reports: reports on *soup*, for the card.
        licence: the Hub's name of the licence; default the one that all ingredients share.
        name: name of the model on the card; default the name of *folder*.

    Returns:
        The folder's path and hash, and how it can be loaded.

    Raises:
        InputError: *soup* cannot be read, does not fit its network, does not load back as it
            was, or was not judged in *judged*.
        UsageError: nothing names the network.
        UnsafeError: reading *soup*, or making the network that it names, would run code.
        NumericsError: *soup* holds NaN, Inf or a negative variance.
        OutputError: *folder* exists or cannot be written.

    Example:
        >>> import soupmerge as sm, tempfile
        >>> home = tempfile.mkdtemp()
        >>> net = sm.model("digits-cnn?width=4")
        >>> sm.save(f"{home}/net.safetensors", net.state_dict(), model=net.soupmerge_ref)
        >>> done = export(f"{home}/out", f"{home}/net.safetensors", licence="mit")
        >>> done.network, done.loader, sorted(path.name for path in done.path.iterdir())
        ('digits-cnn?width=4', 'soupmerge', ['README.md', 'config.json', 'model.safetensors'])
    """
    commit.check_free_folder(folder)
    checkpoint = opened(soup)
    commit.require_room(folder, sum(info.bytes for info in checkpoint.infos.values()))
    checkpoint.require_sound()
    network = net if net is not None else model(like=checkpoint)
    evaluations = [Evaluation.of(report) for report in reports]
    if judged is not None:
        evaluations += evaluations_in(judged, checkpoint.sha256)
    recipe = recipe_of(checkpoint)
    with commit.committed_folder(folder) as draft:
        _write_weights(draft / WEIGHTS, checkpoint, recipe, network)
        loader = networks.write_config(draft / CONFIG, network)
        if recipe is not None:
            commit.write_json(draft / RECIPE, recipe.to_json())
        if evaluations:
            values = [evaluation.to_json() for evaluation in evaluations]
            commit.write_json(draft / EVALUATION, {"format": FORMAT, "evaluations": values})
        written = open_checkpoint(draft / WEIGHTS)
        facts = card.Facts(
            name=name or Path(folder).resolve().name,
            sha256=written.sha256,
            network=ref_of(network) or card.UNKNOWN,
            loader=loader,
            checkpoint=checkpoint,
            recipe=recipe,
            evaluations=tuple(evaluations),
            licence=licence,
        )
        commit.write_text(draft / CARD, card.text_of(facts))
        difference = networks.difference(draft, written, network, checkpoint, loader)
    return Exported(Path(folder), written.sha256, facts.network, loader, difference)


def recipe_of(checkpoint: Checkpoint) -> Recipe | None:
    """Return the recipe of *checkpoint*, without folders, or None if it has none."""
    value = checkpoint.notes_of_soupmerge.get("recipe")
    return None if value is None else Recipe.from_json(value, where=checkpoint.ref).portable()


def _write_weights(
    path: Path, checkpoint: Checkpoint, recipe: Recipe | None, net: nn.Module
) -> None:
    sources, network = checkpoint.sources, ref_of(net) or checkpoint.model
    one_file = [kind_of(source) for source in sources] == [SAFETENSORS]
    named = network is not None and checkpoint.model == network
    if one_file and named and not checkpoint.notes and not is_remote(checkpoint.ref):
        with commit.committed(path) as file:
            for part in sources[0].chunks():
                file.write(part)
        return
    notes: Mapping[str, Any] = checkpoint.notes_of_soupmerge
    others = {key: value for key, value in notes.items() if key not in ("model", "recipe")}
    save(path, checkpoint, recipe=recipe, model=network, notes=others)


def require_export(folder: Path | str) -> tuple[str, ...]:
    """Return the names of the files in *folder* that `export` writes, without any others.

    Raises:
        InputError: files are missing or links, or there are no weights.
        NumericsError: the weights hold NaN, Inf or a negative variance.
    """
    home = Path(folder)
    present = [name for name in ALL if (home / name).is_file()]
    problems = [f"{name} is missing" for name in REQUIRED if name not in present]
    problems += [f"{name} is a link" for name in present if (home / name).is_symlink()]
    if problems:
        fix = "write it with soupmerge export"
        raise InputError("is not an exported soup", problems=problems, where=folder, fix=fix)
    open_checkpoint(home / WEIGHTS).require_sound()
    return tuple(present)

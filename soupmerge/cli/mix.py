"""``soupmerge mix``: write one soup."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import export, meant, options, plans, show
from soupmerge.errors import InputError, UsageError

CALIBRATING = ("data_ref", "threats", "limit")
SAID = ("exclude", "only", "head", "buffers", "groups", "affine", "normalize", "base", "dtype")
"""Options that a recipe stands for."""


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF...]")
@click.option(
    "-w",
    "--weights",
    multiple=True,
    metavar="W,W,...",
    help="Coefficients: 0.5,0.3,0.2 or 1/3,1/3,1/3 or uniform; GROUP=0.5,0.5 for one group.",
)
@click.option(
    "--recipe", "recipe_file", metavar="FILE", help="A recipe.json or soup to make again."
)
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file, or a folder.")
@export.also
@options.licence
@click.option(
    "--groups",
    default="model",
    show_default=True,
    metavar="model|block|module|tensor|glob=A,B",
    help="What has coefficients of its own.",
)
@click.option("--normalize", is_flag=True, help="Divide the coefficients by their sum.")
@click.option("--affine", is_flag=True, help="Allow coefficients outside of [0, 1].")
@options.selection
@click.option(
    "--buffers",
    type=click.Choice(["average", "base", "recalibrate"]),
    help="Batch-norm statistics: averaged (the default), taken from one ingredient, or estimated "
    "anew on --data, clean or under --threat.",
)
@options.base
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32", "float16", "bfloat16"]),
    help="Of the soup [default: that of the first ingredient].",
)
@click.option("--max-shard-size", metavar="SIZE", help="Write a folder of shards, 500MB each, say.")
@options.data("train", required=False)
@options.threats
@options.batch_size(128)
@options.model
@options.weights_key
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], out: str, dry_run: bool, force: bool, **given: Any) -> None:
    """Write one soup: by coefficients, one for each REF, or by a recipe.

    A recipe names its ingredients and their hashes; give REFs with it if they have moved. The soup
    carries its recipe: the same recipe gives the same bytes.
    """
    from soupmerge.weights.geometry import foreign
    from soupmerge.weights.mixing import mix_to_file, soup_infos

    shard = _shard_bytes(out, given)
    if bool(given["weights"]) == bool(given["recipe_file"]):
        fix = "give -w uniform for the uniform soup"
        raise UsageError("give one of the two", where="-w and --recipe", fix=fix)
    pots, recipe = (_by_recipe if given["recipe_file"] else _by_weights)(refs, given)
    meant.tell(pots, given)
    _tell_of_statistics(pots, recipe)
    if shard is not None and recipe.buffers == "recalibrate":
        fix = "leave out --max-shard-size"
        raise UsageError("goes into one file", where="--buffers recalibrate", fix=fix)
    size = sum(info.bytes for info in soup_infos(pots, recipe).values())
    _check_out(out, pots, shard, force, size)
    export.check(given, size)
    if remark := foreign(pots):
        warnings.warn(remark, stacklevel=1)
    if dry_run:
        plans.show_mix(out, pots, recipe, shard, as_json=given["as_json"])
        return
    if recipe.buffers == "recalibrate":
        digest = _write_recalibrated(out, pots, recipe, given, force)
    else:
        digest = mix_to_file(out, pots, recipe, shard_bytes=shard, force=force)
    net = meant.network(given, like=pots) if given["export"] else None
    done = export.exported(out, given, net=net)
    if given["as_json"]:
        more = {"export": str(done.path)} if done else {}
        show.dump({"out": out, "sha256": digest, "bytes": size, "recipe": recipe.to_json()} | more)
        return
    show.table(["soup", "tensors", "bytes", "sha256"], [[out, len(pots.infos), size, digest]])
    if done:
        export.tell(done, as_json=False)


def _shard_bytes(out: str, given: dict[str, Any]) -> int | None:
    from soupmerge.numbers import size

    if given["max_shard_size"] is None:
        if not out.endswith(".safetensors"):
            what = f"cannot write {Path(out).suffix!r} files"
            raise UsageError(what, where=out, fix="name a .safetensors file")
        return None
    found = size(given["max_shard_size"], "--max-shard-size")
    if found < 1:
        what, fix = "a shard must hold a byte at least", "write a size such as 500MB"
        raise UsageError(what, where="--max-shard-size", fix=fix)
    return found


def _check_out(out: str, pots: sm.Ingredients, shard: int | None, force: bool, size: int) -> None:
    from soupmerge.storage import commit

    if shard is None:
        commit.check_free(out, force=force, inputs=pots.files)
    else:
        commit.check_free_folder(out)
    commit.require_room(out, size)


def _by_weights(refs: tuple[str, ...], given: dict[str, Any]) -> tuple[sm.Ingredients, sm.Recipe]:
    from soupmerge.weights.coefficients import parse_rows

    pots = meant.ingredients(refs, given)
    groups = tuple(pots.groups(given["groups"]))
    rows = parse_rows(given["weights"], groups, len(pots), normalize=given["normalize"])
    recipe = sm.Recipe.of(
        pots,
        rows,
        by=given["groups"],
        buffers=given["buffers"] or "average",
        base=meant.index_of_base(given, len(pots)),
        affine=given["affine"],
        dtype=given["dtype"],
    )
    return pots, _with_calibration(recipe, given)


def _by_recipe(refs: tuple[str, ...], given: dict[str, Any]) -> tuple[sm.Ingredients, sm.Recipe]:
    from soupmerge.sources.refs import of_recipe
    from soupmerge.weights.recipe import read_recipe

    source = click.get_current_context().get_parameter_source
    fixed = [f"--{k}" for k in SAID if source(k) is not click.core.ParameterSource.DEFAULT]
    if fixed:
        raise UsageError("the recipe says it already", where=", ".join(fixed), fix="leave it out")
    recipe = read_recipe(given["recipe_file"])
    pots = of_recipe(
        recipe,
        Path(given["recipe_file"]).parent,
        refs=refs,
        weights_key=given["weights_key"],
        where=given["recipe_file"],
    )
    return pots, _with_calibration(recipe, given)


def _tell_of_statistics(pots: sm.Ingredients, recipe: sm.Recipe) -> None:
    from soupmerge.weights.buffers import is_statistic

    there = any(map(is_statistic, pots.infos))
    own, largest = recipe.mean_weights[recipe.base], max(recipe.mean_weights)
    if there and recipe.buffers == "base" and own < largest:
        which = f"ingredient {recipe.base + 1}, whose coefficient is {own:.3g}"
        show.note(f"batch-norm statistics are those of {which}; --base chooses another")
        return
    if there and recipe.buffers != "recalibrate" and max(recipe.mean_weights) < 1:
        how = "averaged" if recipe.buffers == "average" else "copied"
        show.note(f"batch-norm statistics are {how}, not re-estimated (--buffers recalibrate does)")


def _with_calibration(recipe: sm.Recipe, given: dict[str, Any]) -> sm.Recipe:
    """Return *recipe* with what its statistics are to be estimated on, or hold it to that."""
    if recipe.buffers != "recalibrate":
        unused = [name for name in CALIBRATING if given[name]]
        if unused:
            fix = "give --buffers recalibrate"
            raise UsageError("nothing is estimated on them", where="--data", fix=fix)
        return recipe
    if not given["data_ref"]:
        raise UsageError("needs images", where="--buffers recalibrate", fix="give --data")
    from soupmerge.storage.run import essence
    from soupmerge.weights import ledger

    calibration = meant.calibration(given)
    told = calibration.describe()
    if recipe.calibration and essence(recipe.calibration) != essence(told):
        what = f"statistics were estimated on {recipe.calibration}, not on {told}"
        raise InputError(what, where=given["recipe_file"], fix="give the same images and threat")
    entry = ledger.entry("recalibrate", calibration.data, ledger.TRAINED)
    seen = (*(known for known in recipe.seen if known != entry), entry)
    return dataclasses.replace(recipe, calibration=told, seen=seen)


def _write_recalibrated(
    out: str, pots: sm.Ingredients, recipe: sm.Recipe, given: dict[str, Any], force: bool
) -> str:
    from soupmerge.weights.mixing import save_soup

    device = meant.device(given)
    net = meant.network(given, like=pots)
    with show.Progress(given["quiet"]) as progress:
        state = sm.recalibrate(
            net,
            sm.mix(pots, recipe),
            meant.calibration(given),
            device=device,
            progress=progress,
        )
    return save_soup(out, state, pots, recipe, force=force)

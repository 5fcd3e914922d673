"""``soupmerge mix``: write one soup."""

from __future__ import annotations

import warnings
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import dry_run as plans
from soupmerge.cli import show
from soupmerge.cli.export import print_export
from soupmerge.cli.options import output as outputs
from soupmerge.cli.options.coefficients import Coefficients, coefficients
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import Export
from soupmerge.cli.options.recalibration import (
    RECALIBRATE,
    Recalibration,
    recalibration,
    with_calibration,
)
from soupmerge.cli.options.soup_output import SoupOutput, soup_output
from soupmerge.errors import UsageError


@click.command(cls=Command)
@coefficients
@soup_output
@outputs.export
@recalibration
@network
@machine(128)
@outputs.dry_run
@outputs.as_json
def command(
    coefficients: Coefficients,
    output: SoupOutput,
    export: Export,
    recalibration: Recalibration,
    network: Network,
    machine: Machine,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write one soup, by one coefficient for each REF or by a recipe.

    A recipe names its ingredients and their hashes; also give REFs if the files have moved. The
    soup carries its recipe, and the same recipe gives the same bytes.
    """
    if coefficients.buffers == "recalibrate":
        _check_recalibration(recalibration, output)
    from soupmerge.weights.geometry import separation_warning
    from soupmerge.weights.mixing import soup_infos
    from soupmerge.weights.saving import mix_to_file

    shard = output.shard_bytes()
    ingredients, recipe = coefficients.load()
    calibration = recalibration.calibration(recipe, ingredients, machine, coefficients.recipe)
    recipe = recipe if calibration is None else with_calibration(recipe, calibration)
    _note_statistics(ingredients, recipe)
    if calibration is not None:
        _check_recalibration(recalibration, output)
    size = sum(info.bytes for info in soup_infos(ingredients, recipe).values())
    output.check(ingredients, size)
    export.check(size)
    if remark := separation_warning(ingredients):
        warnings.warn(remark, stacklevel=1)
    out, force = output.out, output.force
    if dry_run:
        plans.print_mix(out, ingredients, recipe, shard, as_json=as_json)
        return
    if calibration is None:
        digest = mix_to_file(out, ingredients, recipe, shard_bytes=shard, force=force)
    else:
        net = network.make(like=ingredients)
        digest = _write_recalibrated(net, ingredients, recipe, calibration, machine, output)
    exported = export.write(out, net=network.make(like=ingredients)) if export.folder else None
    if as_json:
        more = {"export": str(exported.path)} if exported else {}
        show.dump({"out": out, "sha256": digest, "bytes": size, "recipe": recipe.to_json()} | more)
        return
    show.table(
        ["soup", "tensors", "bytes", "sha256"], [[out, len(ingredients.infos), size, digest]]
    )
    if exported:
        print_export(exported, as_json=False)


def _check_recalibration(recalibration: Recalibration, output: SoupOutput) -> None:
    if recalibration.data.ref is None:
        raise UsageError("needs images", where=RECALIBRATE, fix="give --data")
    if output.max_shard_size is not None:
        fix = "leave out --max-shard-size"
        raise UsageError("writes a single file", where=RECALIBRATE, fix=fix)


def _write_recalibrated(
    net: Any,
    ingredients: sm.Ingredients,
    recipe: sm.Recipe,
    calibration: sm.Calibration,
    machine: Machine,
    output: SoupOutput,
) -> str:
    from soupmerge.weights.saving import save_soup

    device = machine.device()
    with show.Progress() as progress:
        state = sm.recalibrate(
            net, sm.mix(ingredients, recipe), calibration, device=device, progress=progress
        )
    return save_soup(output.out, state, ingredients, recipe, force=output.force)


def _note_statistics(ingredients: sm.Ingredients, recipe: sm.Recipe) -> None:
    """Print where batch-norm statistics come from, if that may be a surprise."""
    from soupmerge.weights.buffers import is_statistic

    if not any(map(is_statistic, ingredients.infos)):
        return
    own, largest = recipe.mean_weights[recipe.base], max(recipe.mean_weights)
    if recipe.buffers == "base" and own < largest:
        which = f"ingredient {recipe.base + 1}, whose coefficient is {own:.3g}"
        show.note(f"batch-norm statistics are those of {which}; --base chooses another")
    elif recipe.buffers != "recalibrate" and largest < 1:
        source = "averaged" if recipe.buffers == "average" else "copied"
        show.note(f"batch-norm statistics are {source}, not re-estimated ({RECALIBRATE} does that)")

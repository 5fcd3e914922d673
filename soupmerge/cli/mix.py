"""``soupmerge mix``: write one soup."""

from __future__ import annotations

import warnings
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import plans, show
from soupmerge.cli.export import tell
from soupmerge.cli.options import output
from soupmerge.cli.options.calibrating import Calibrating, calibrating, noted
from soupmerge.cli.options.coefficients import Coefficients, coefficients
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.output import Export
from soupmerge.cli.options.written import Written, written
from soupmerge.errors import UsageError


@click.command(cls=Command)
@coefficients
@written
@output.export
@calibrating
@network
@machine(128)
@output.dry_run
@output.as_json
def command(
    coefficients: Coefficients,
    written: Written,
    export: Export,
    calibrating: Calibrating,
    network: Network,
    machine: Machine,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write one soup: by coefficients, one for each REF, or by a recipe.

    A recipe names its ingredients and their hashes; give REFs with it if they have moved. The soup
    carries its recipe: the same recipe gives the same bytes.
    """
    from soupmerge.weights.geometry import separation_warning
    from soupmerge.weights.mixing import soup_infos
    from soupmerge.weights.saving import mix_to_file

    shard = written.shard_bytes()
    ingredients, recipe = coefficients.load()
    calibration = calibrating.of(recipe, machine, coefficients.recipe)
    recipe = recipe if calibration is None else noted(recipe, calibration)
    _tell_of_statistics(ingredients, recipe)
    if shard is not None and calibration is not None:
        fix = "leave out --max-shard-size"
        raise UsageError("goes into one file", where="--buffers recalibrate", fix=fix)
    size = sum(info.bytes for info in soup_infos(ingredients, recipe).values())
    written.check(ingredients, size)
    export.check(size)
    if remark := separation_warning(ingredients):
        warnings.warn(remark, stacklevel=1)
    out, force = written.out, written.force
    if dry_run:
        plans.show_mix(out, ingredients, recipe, shard, as_json=as_json)
        return
    if calibration is None:
        digest = mix_to_file(out, ingredients, recipe, shard_bytes=shard, force=force)
    else:
        net = network.make(like=ingredients)
        digest = _write_recalibrated(net, ingredients, recipe, calibration, machine, written)
    done = export.write(out, net=network.make(like=ingredients)) if export.folder else None
    if as_json:
        more = {"export": str(done.path)} if done else {}
        show.dump({"out": out, "sha256": digest, "bytes": size, "recipe": recipe.to_json()} | more)
        return
    show.table(
        ["soup", "tensors", "bytes", "sha256"], [[out, len(ingredients.infos), size, digest]]
    )
    if done:
        tell(done, as_json=False)


def _write_recalibrated(
    net: Any,
    ingredients: sm.Ingredients,
    recipe: sm.Recipe,
    calibration: sm.Calibration,
    machine: Machine,
    written: Written,
) -> str:
    from soupmerge.weights.saving import save_soup

    device = machine.device()
    with show.Progress() as progress:
        state = sm.recalibrate(
            net, sm.mix(ingredients, recipe), calibration, device=device, progress=progress
        )
    return save_soup(written.out, state, ingredients, recipe, force=written.force)


def _tell_of_statistics(ingredients: sm.Ingredients, recipe: sm.Recipe) -> None:
    from soupmerge.weights.buffers import is_statistic

    there = any(map(is_statistic, ingredients.infos))
    own, largest = recipe.mean_weights[recipe.base], max(recipe.mean_weights)
    if there and recipe.buffers == "base" and own < largest:
        which = f"ingredient {recipe.base + 1}, whose coefficient is {own:.3g}"
        show.note(f"batch-norm statistics are those of {which}; --base chooses another")
        return
    if there and recipe.buffers != "recalibrate" and max(recipe.mean_weights) < 1:
        how = "averaged" if recipe.buffers == "average" else "copied"
        show.note(f"batch-norm statistics are {how}, not re-estimated (--buffers recalibrate does)")

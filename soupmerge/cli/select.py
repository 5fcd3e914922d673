"""``soupmerge select``: pick a soup of finished runs, and write it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from soupmerge.cli import results, searches, show
from soupmerge.cli.export import tell
from soupmerge.cli.options import ingredients, machine, output
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.output import Export
from soupmerge.cli.options.pick import Pick, pick
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.soups.search.choice import Choice, Tried

FEW = 5
"""Ties that are named; of others there is only the number."""


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@pick
@click.option("-o", "--out", metavar="FILE.safetensors", help="Write the soup there.")
@output.export
@click.option("--ref", "refs", multiple=True, metavar="REF", help="Ingredients, if they moved.")
@ingredients.weights_key
@machine.debug
@output.force
@output.as_json
def command(
    runs: tuple[str, ...],
    pick: Pick,
    out: str | None,
    export: Export,
    refs: tuple[str, ...],
    weights_key: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Pick the best soup in a metric, under conditions, from runs of one benchmark.

    The default metric is union, or clean if nothing else was judged. Soups that are not told apart
    from it, image by image, are named. Ingredients are found by the paths in the run, and must be
    the same files.
    """
    from soupmerge.soups.search.choice import tried

    if pick.knee and pick.metric:
        raise UsageError("one or the other", where="--metric, --knee", fix="leave one out")
    if export.folder and not out:
        raise UsageError("needs the soup", where="--export", fix="give -o as well")
    export.check()
    seen = tried(runs)
    for home, progress in seen.unfinished.items():
        warnings.warn(f"{home} is unfinished: {progress}, and others may be better", stacklevel=2)
    choice, metric = pick.choose(seen)
    done = None
    if out:
        _write(out, choice, seen.model, refs, weights_key, force=force)
        done = export.write(out, net=None)
    if as_json:
        show.dump(_told(seen, choice))
        return
    _print(seen, choice, metric)
    if out:
        show.note(f"written to {out}")
    if done:
        tell(done, as_json=False)


def _write(
    out: str,
    choice: Choice,
    model: str | None,
    refs: tuple[str, ...],
    weights_key: str | None,
    *,
    force: bool,
) -> None:
    from soupmerge.sources.refs import of_recipe
    from soupmerge.storage import commit
    from soupmerge.weights.saving import mix_to_file

    if not out.endswith(".safetensors"):
        raise UsageError("is not a .safetensors file", where=out, fix="name one")
    commit.check_free(out, force=force)
    recipe = choice.trial.recipe
    if not recipe.seen:
        what = f"{choice.home} does not say which images choose: the soup has no ledger of them"
        warnings.warn(what, stacklevel=2)
    loaded = of_recipe(recipe, choice.home, where=choice.home, refs=refs, weights_key=weights_key)
    mix_to_file(out, loaded, recipe, model=model, force=force)


def _told(seen: Tried, choice: Choice) -> dict[str, Any]:
    """Return the choice as JSON values."""
    rivals = [
        {"weights": list(trial.recipe.mean_weights), "gap": gap._asdict()}
        for trial, gap in choice.rivals
    ]
    return {
        "run": str(choice.home),
        "tried": len(seen.trials),
        "recipe": choice.trial.recipe.to_json(),
        "metrics": choice.trial.judged().to_metrics(),
        "unfinished": {str(home): how for home, how in seen.unfinished.items()},
        "ties": rivals,
    }


def _print(seen: Tried, choice: Choice, metric: str) -> None:
    chosen = [searches.weights_of(choice.trial, " ")]
    results.print_reports(chosen, [choice.trial.judged()], f"of {len(seen.trials)} soups")
    for trial, gap in choice.rivals[:FEW]:
        show.note(f"tied: {searches.weights_of(trial)}; the chosen is {gap} above it in {metric}")
    if len(choice.rivals) > FEW:
        show.note(f"tied: {len(choice.rivals) - FEW} more")

"""``soupmerge select``: pick a soup of finished runs, and write it."""

from __future__ import annotations

import warnings
from typing import Any

import click

from soupmerge.cli import export, options, results, searches, show
from soupmerge.errors import UsageError

FEW = 5
"""Ties that are named; of others there is only the number."""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--max", "metric", metavar="METRIC", help=f"Highest in {searches.METRICS}.")
@click.option("--knee", is_flag=True, help="The knee of the front of --x and --y.")
@click.option("--x", default="clean", show_default=True, metavar="METRIC", help="For --knee.")
@click.option("--y", metavar="METRIC", help="For --knee [default: union].")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only soups that meet it, such as 'clean>=0.85'; may be repeated.",
)
@click.option("-o", "--out", metavar="FILE.safetensors", help="Write the soup there.")
@export.also
@options.licence
@click.option("--ref", "refs", multiple=True, metavar="REF", help="Ingredients, if they moved.")
@options.weights_key
@options.debug
@options.force
@options.as_json
def command(runs: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Pick the soup that is highest in a metric, under conditions, from runs of one benchmark.

    Without --max that is union, or clean if nothing else was judged. Soups that are not told apart
    from it, image by image, are named. Ingredients are found by the paths in the run, and must be
    the same files.
    """
    from soupmerge.soups.choosing import choose, tried

    if given["knee"] and given["metric"]:
        raise UsageError("one or the other", where="--max, --knee", fix="leave one out")
    if given["export"] and not given["out"]:
        raise UsageError("needs the soup", where="--export", fix="give -o as well")
    export.check(given)
    seen = tried(runs)
    for home, progress in seen.unfinished.items():
        warnings.warn(f"{home} is unfinished: {progress}, and others may be better", stacklevel=2)
    last = seen.trials.metrics[-1]
    metric = None if given["knee"] else given["metric"] or last
    choice = choose(seen, metric, given["conditions"], given["x"], given["y"] or last)
    if given["out"]:
        if not choice.trial.recipe.seen:
            what = f"{choice.home} does not say which images choose: the soup has no ledger of them"
            warnings.warn(what, stacklevel=2)
        _write(given, choice, seen.model)
    done = export.exported(given["out"], given, net=None)
    if as_json:
        report = choice.trial.judged()
        rivals = [
            {"weights": list(trial.recipe.mean_weights), "gap": gap._asdict()}
            for trial, gap in choice.rivals
        ]
        told = {"recipe": choice.trial.recipe.to_json(), "metrics": report.to_metrics()}
        told |= {"unfinished": {str(home): how for home, how in seen.unfinished.items()}}
        show.dump({"run": str(choice.home), "tried": len(seen.trials), **told, "ties": rivals})
        return
    chosen = [searches.weights_of(choice.trial, " ")]
    results.print_reports(chosen, [choice.trial.judged()], f"of {len(seen.trials)} soups")
    what = metric or given["y"] or last
    for trial, gap in choice.rivals[:FEW]:
        show.note(f"tied: {searches.weights_of(trial)}; the chosen is {gap} above it in {what}")
    if len(choice.rivals) > FEW:
        show.note(f"tied: {len(choice.rivals) - FEW} more")
    if given["out"]:
        show.note(f"written to {given['out']}")
    if done:
        export.tell(done, as_json=False)


def _write(given: dict[str, Any], choice: Any, model: str | None) -> None:
    from soupmerge.sources.refs import of_recipe
    from soupmerge.storage import commit
    from soupmerge.weights.mixing import mix_to_file

    if not given["out"].endswith(".safetensors"):
        raise UsageError("is not a .safetensors file", where=given["out"], fix="name one")
    commit.check_free(given["out"], force=given["force"])
    recipe = choice.trial.recipe
    how = {"refs": given["refs"], "weights_key": given["weights_key"]}
    pots = of_recipe(recipe, choice.home, where=choice.home, **how)
    mix_to_file(given["out"], pots, recipe, model=model, force=given["force"])

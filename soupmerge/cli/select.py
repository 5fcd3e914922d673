"""``soupmerge select``: choose a soup of finished runs, and write it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from soupmerge.cli import results, searches, show
from soupmerge.cli.export import print_export
from soupmerge.cli.options import ingredients, output
from soupmerge.cli.options.front_choice import FrontChoice, front_choice
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import Export
from soupmerge.cli.options.soup_choice import SoupChoice, soup_choice
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.soups.search.choice import Choice, Tried

MOST_TIES = 5
"""Ties that are listed; of more, only the number is printed."""


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@soup_choice
@click.option("-o", "--out", metavar="FILE.safetensors", help="Write the soup to this file.")
@output.export
@click.option(
    "--ref", "refs", multiple=True, metavar="REF", help="Ingredients, if the files have moved."
)
@ingredients.weights_key
@front_choice
@output.force
@output.as_json
def command(
    runs: tuple[str, ...],
    soup_choice: SoupChoice,
    out: str | None,
    export: Export,
    refs: tuple[str, ...],
    weights_key: str | None,
    front_choice: FrontChoice,
    force: bool,
    as_json: bool,
) -> None:
    """Choose the best soup in a metric, under conditions, from runs of one benchmark.

    The default metric is union, or clean if there were no attacks. Soups whose difference from it,
    image by image, is within the noise are listed. Ingredients are found by the paths in the run,
    and must be the same files. With --data, a front is searched for the soup: points that have not
    been judged yet are judged on these images, and kept in RUN/chosen.
    """
    if export.folder and not out:
        raise UsageError("needs the soup", where="--export", fix="give -o as well")
    if out:
        output.require_safetensors(out)
    export.check()
    runs = front_choice.refined(runs, soup_choice, refs, weights_key)
    from soupmerge.soups.search.choice import tried

    found = tried(runs)
    for home, progress in found.unfinished.items():
        warnings.warn(f"{home} is unfinished: {progress}, and others may be better", stacklevel=2)
    choice, metric = soup_choice.choose(found)
    exported = None
    if out:
        _write(out, choice, found.model, refs, weights_key, force=force)
        exported = export.write(out, net=None)
    if as_json:
        show.dump(_to_json(found, choice))
        return
    _print(found, choice, metric)
    if out:
        show.note(f"written to {out}")
    if exported:
        print_export(exported, as_json=False)


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

    commit.check_free(out, force=force)
    recipe = choice.trial.recipe
    if not recipe.seen:
        what = f"{choice.home} does not record which images chose: the soup has no ledger of them"
        warnings.warn(what, stacklevel=2)
    loaded = of_recipe(recipe, choice.home, where=choice.home, refs=refs, weights_key=weights_key)
    mix_to_file(out, loaded, recipe, model=model, force=force)


def _to_json(found: Tried, choice: Choice) -> dict[str, Any]:
    """Return the choice as JSON values."""
    ties = [
        {"weights": list(trial.recipe.mean_weights), "gap": gap._asdict()}
        for trial, gap in choice.rivals
    ]
    return {
        "run": str(choice.home),
        "tried": len(found.trials),
        "recipe": choice.trial.recipe.to_json(),
        "metrics": choice.trial.judged().to_metrics(),
        "unfinished": {str(home): progress for home, progress in found.unfinished.items()},
        "ties": ties,
    }


def _print(found: Tried, choice: Choice, metric: str) -> None:
    chosen = [searches.weights_of(choice.trial, " ")]
    title = f"of {show.counted(len(found.trials), 'soup')}"
    results.print_reports(chosen, [choice.trial.judged()], title)
    for trial, gap in choice.rivals[:MOST_TIES]:
        weights = searches.weights_of(trial)
        show.note(f"tied: {weights}; the chosen soup is {gap} above it in {metric}")
    if len(choice.rivals) > MOST_TIES:
        show.note(f"tied: {len(choice.rivals) - MOST_TIES} more")

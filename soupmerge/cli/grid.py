"""``soupmerge grid``: every soup of the simplex lattice, judged."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, results, show


@click.command()
@options.refs
@options.data("val")
@options.attack
@click.option("--step", default="0.2", show_default=True, help="Between coefficients; divides 1.")
@click.option(
    "--best",
    metavar="METRIC",
    help="What the written soup is best in: clean, a threat or union [default: union].",
)
@click.option("-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself.")
@options.buffers
@options.model
@options.weights_key
@options.batch_size(256)
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Judge every soup whose coefficients are multiples of a step, and write the best.

    At step 0.2 that is 6, 21, 56 soups for 2, 3, 4 checkpoints. The data choose the soup: judge it
    on others.
    """
    from soupmerge.soups.grid import plan

    device = meant.device(given)
    pots = sm.load(*refs, weights_key=given["weights_key"])
    meant.tell(pots, given)
    base = meant.index_of_base(given, len(pots))
    size, _ = plan(pots, given["step"])
    net = meant.network(given, like=pots)
    benchmark = meant.benchmark(given, "val")
    meant.warn_of_test(given["split"], "chooses the soup")
    images, threats = len(benchmark.data), len(benchmark.attacks)
    show.note(f"{size} soups of {len(pots)} ingredients, {images} images, {threats} threats")
    if dry_run:
        return
    _announce_resume(given["out"], given["force"])
    with show.Progress(given["quiet"]) as progress:
        trials = sm.grid(
            net,
            pots,
            benchmark,
            step=given["step"],
            choose=given["best"],
            buffers=given["buffers"],
            base=base,
            device=device,
            out=given["out"],
            force=given["force"],
            progress=progress,
        )
    if as_json:
        show.dump(trials.summary())
        return
    names = [" ".join(f"{w:.3g}" for w in t.recipe.weights[0]) for t in trials]
    results.print_reports(
        names, [t.judged() for t in trials], "coefficients of " + ", ".join(pots.names)
    )
    best = trials.best(given["best"] or benchmark.metrics[-1])
    weights = ", ".join(f"{w:.3g}" for w in best.recipe.weights[0])
    show.note(f"best: {weights}; written to {given['out']}/soup.safetensors")


def _announce_resume(out: str, force: bool) -> None:
    from pathlib import Path

    from soupmerge.storage import journal

    done = [] if force else journal.read(Path(out) / "trials.jsonl")
    if done:
        show.note(f"resuming {out}: {len(done)} soups were judged before")

"""``soupmerge eval``: clean and robust accuracy."""

from __future__ import annotations

from typing import Any

import click

from soupmerge.cli import meant, options, results, show


@click.command()
@options.refs
@options.data("test")
@options.attack
@options.model
@options.weights_key
@click.option("-o", "--out", metavar="RUN", help="Run folder: keeps every verdict, and resumes.")
@options.batch_size(256)
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Judge networks: clean accuracy, accuracy under each threat, and under their union.

    Union counts the images that are right under every threat. Several REFs make one table.
    """
    from soupmerge.soups.comparing import Entry, compare
    from soupmerge.sources.refs import opened_all

    device = meant.device(given)
    checkpoints = opened_all(refs, weights_key=given["weights_key"])
    meant.tell(checkpoints, given)
    entries = [Entry(c, meant.network(given, like=c)) for c in checkpoints]
    benchmark = meant.benchmark(given, "test")
    if dry_run:
        plan = [[ref, len(benchmark.data), len(benchmark.attacks)] for ref in refs]
        show.table(["network", "images", "threats"], plan)
        return
    with show.Progress(given["quiet"]) as progress:
        reports = compare(
            entries,
            benchmark,
            device=device,
            out=given["out"],
            force=given["force"],
            progress=progress,
        )
    if as_json:
        cost = results.cost(reports)
        data = benchmark.data.fingerprint()
        values = [
            {"model": r, "data": data, "metrics": p.to_metrics()}
            for r, p in zip(refs, reports, strict=True)
        ]
        one = {**values[0], "cost": cost}
        show.dump(one if len(refs) == 1 else {"reports": values, "cost": cost})
    else:
        results.print_reports(refs, reports, "accuracy")
    if not given["out"] and not as_json:
        show.note("the verdicts on single images were not kept; -o RUN keeps them")

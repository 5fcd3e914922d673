"""``soupmerge demo``: the whole story, told by running the commands that it prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from soupmerge.cli import show
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.machine import debug

JUDGED = "--threat linf:0.1 --threat l2:0.5"
TRAINED = "--data digits --split train --augment none"


def story(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each chapter: what it does, and the command that does it."""
    d = shlex.quote(folder)
    ingredients = f"{d}/linf.safetensors {d}/l2.safetensors {d}/clean.safetensors"
    yield (
        "Train a small network adversarially, from scratch",
        f"finetune --model digits-cnn --threat linf:0.1 {TRAINED} --epochs 20 --lr 0.1"
        f" -o {d}/base.safetensors",
    )
    for name, threat in (("linf", "linf:0.15"), ("l2", "l2:1"), ("clean", "clean")):
        yield (
            f"Fine-tune it into the ingredient {name!r}",
            f"finetune {d}/base.safetensors --threat {threat} {TRAINED} --epochs 15 --lr 0.05"
            f" -o {d}/{name}.safetensors",
        )
    yield "Do the ingredients fit together?", f"check {ingredients}"
    yield (
        "Judge the 21 soups of the simplex, on images that choose",
        f"grid {ingredients} --data digits --split val {JUDGED} -o {d}/grid",
    )
    for eps in ("0", "0.15"):
        yield (
            f"Learn a soup with a coefficient per tensor, at eps {eps}",
            f"learn {ingredients} --eps {eps} {TRAINED} --epochs 10 -o {d}/learned-{eps}",
        )
    yield "Mix the uniform soup", f"mix {ingredients} -w uniform -o {d}/uniform.safetensors --force"
    yield (
        "Mix the grid's best soup on clean images",
        f"mix --recipe {d}/grid/best/clean.json -o {d}/grid-clean.safetensors --force",
    )
    yield (
        "Compare them all, on images that chose nothing",
        f"eval {ingredients} {d}/uniform.safetensors {d}/grid-clean.safetensors"
        f" {d}/grid/soup.safetensors {d}/learned-0/soup.safetensors"
        f" {d}/learned-0.15/soup.safetensors --data digits --split test {JUDGED} -o {d}/compared",
    )
    for run in ("grid", "learned-0.15", "compared"):
        yield f"Draw the figures of {run!r}", f"report {d}/{run}"


@click.command(cls=Command)
@click.option("-o", "--out", default="soupmerge-demo", show_default=True, metavar="DIR")
@debug
def command(out: str) -> int | None:
    """Tell the whole story on scikit-learn's digits: train, fine-tune, check, grid, learn, compare.

    Takes a minute or two on two cores. Prints every command it runs; all of them resume, and so
    does this one.
    """
    from soupmerge.cli.main import cli
    from soupmerge.storage import commit

    with commit.writing(out):
        Path(out).mkdir(parents=True, exist_ok=True)
    chapters = list(story(out))
    for number, (title, line) in enumerate(chapters, start=1):
        click.secho(f"\n[{number}/{len(chapters)}] {title}", bold=True)
        click.echo(f"$ soupmerge {line}")
        takes_progress = show.is_quiet() and not line.startswith("report")
        arguments = shlex.split(line) + (["--quiet"] if takes_progress else [])
        status = cli.main(args=arguments, prog_name="soupmerge", standalone_mode=False)
        if status:
            return int(status)
    show.note("")
    click.echo(
        f"The chosen soup is {out}/grid/soup.safetensors, its recipe {out}/grid/recipe.json."
    )
    click.echo(f"The pictures are in {out}/*/figures. Any command above can be run by hand.")
    return None

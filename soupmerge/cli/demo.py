"""``soupmerge demo``: the whole workflow, by running the commands that it prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from soupmerge.cli import show
from soupmerge.cli.options.machine import common
from soupmerge.cli.options.option_groups import Command

THREATS = "--threat linf:0.1 --threat l2:0.5"
TRAINING = "--data digits --split train --augment none"


def story(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each step: its title and its command."""
    d = shlex.quote(folder)
    ingredients = f"{d}/linf.safetensors {d}/l2.safetensors {d}/clean.safetensors"
    yield (
        "Train a small network adversarially, from scratch",
        f"finetune --model digits-cnn --threat linf:0.1 {TRAINING} --epochs 20 --lr 0.1"
        f" -o {d}/base.safetensors",
    )
    for name, threat in (("linf", "linf:0.15"), ("l2", "l2:1"), ("clean", "clean")):
        yield (
            f"Fine-tune it into the ingredient {name!r}",
            f"finetune {d}/base.safetensors --threat {threat} {TRAINING} --epochs 15 --lr 0.05"
            f" -o {d}/{name}.safetensors",
        )
    yield "Do the ingredients fit together?", f"check {ingredients}"
    yield (
        "Judge the 21 soups of the grid, on images that choose",
        f"grid {ingredients} --data digits --split val {THREATS} -o {d}/grid",
    )
    for eps in ("0", "0.15"):
        yield (
            f"Learn a soup with a coefficient per tensor, at eps {eps}",
            f"learn {ingredients} --eps {eps} {TRAINING} --epochs 10 -o {d}/learned-{eps}",
        )
    yield (
        "Learn a front, a soup for every trade-off, and judge seven of them beside the grid",
        f"front {ingredients} --objective clean --objective linf:0.15 {TRAINING} --epochs 10"
        f" --judge-split test --threat linf:0.1 --points 7 --beside {d}/grid -o {d}/front",
    )
    yield "Mix the uniform soup", f"mix {ingredients} -w uniform -o {d}/uniform.safetensors --force"
    yield (
        "Mix the best soup of the grid on clean images",
        f"mix --recipe {d}/grid/best/clean.json -o {d}/grid-clean.safetensors --force",
    )
    yield (
        "Compare them all, on images that chose nothing",
        f"eval {ingredients} {d}/uniform.safetensors {d}/grid-clean.safetensors"
        f" {d}/grid/soup.safetensors {d}/learned-0/soup.safetensors"
        f" {d}/learned-0.15/soup.safetensors --data digits --split test {THREATS} -o {d}/compared",
    )
    yield (
        "Write the soup of the front at which clean and robust accuracy count alike",
        f"mix --recipe {d}/front/front.json --at 0.5 -o {d}/front-0.5.safetensors --force",
    )
    for run in ("grid", "learned-0.15", "front", "compared"):
        yield f"Draw the figures of {run!r}", f"report {d}/{run}"


@click.command(cls=Command)
@click.option("-o", "--out", default="soupmerge-demo", show_default=True, metavar="DIR")
@common
def command(out: str) -> int | None:
    """Run the whole workflow on scikit-learn's digits: fine-tune, check, grid, learn, front.

    This takes a few minutes on two cores. Every command is printed before it runs; all of them
    resume, and so does this one.
    """
    from soupmerge.cli.main import cli
    from soupmerge.storage import commit

    with commit.writing(out):
        Path(out).mkdir(parents=True, exist_ok=True)
    steps = list(story(out))
    for number, (title, line) in enumerate(steps, start=1):
        click.secho(f"\n[{number}/{len(steps)}] {title}", bold=True)
        click.echo(f"$ soupmerge {line}")
        arguments = shlex.split(line) + (["--quiet"] if show.is_quiet() else [])
        status = cli.main(args=arguments, prog_name="soupmerge", standalone_mode=False)
        if status:
            return int(status)
    show.note("")
    click.echo(
        f"The chosen soup is {out}/grid/soup.safetensors; its recipe is {out}/grid/recipe.json."
    )
    click.echo(f"The figures are in {out}/*/figures. Any command above can be run by hand.")
    return None

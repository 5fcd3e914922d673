"""``soupmerge data``: what a data set holds, and how it looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import CORRUPTIONS, FIGURE_FORMATS, IMAGENET_C, IMAGENET_C_EXTRA
from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.data import OptionalData, data_argument
from soupmerge.cli.options.option_groups import Command
from soupmerge.errors import UsageError
from soupmerge.known_sets import KNOWN_SETS

KINDS = (
    "KIND-n:DATA stands for the images of DATA with a corruption of strength n, 1 to 5. Kinds: "
    f"{', '.join(CORRUPTIONS)}; and, with pip install 'soupmerge[corruptions]', ImageNet-C's: "
    f"{', '.join((*IMAGENET_C, *IMAGENET_C_EXTRA))}. corruptions:DATA stands for the first fifteen "
    "of these at all strengths."
)


@click.command(cls=Command, epilog=KINDS)
@data_argument("test")
@click.option(
    "--list", "list_sets", is_flag=True, help="List the published data sets that have a name."
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    help=f"Also draw a contact sheet, as a {', '.join(FIGURE_FORMATS)} file.",
)
@output.force
@click.option(
    "--model", metavar="NAME", help="A network that is to see the images, such as timm:resnet50."
)
@output.as_json
@machine.common
def command(
    data: OptionalData,
    list_sets: bool,
    out: str | None,
    force: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Show what a data set holds: classes, images per class, sizes, and its fingerprint.

    With --model, images of several sizes are preprocessed as the network states, and it is asked
    about the first of them: the command ends with status 1 if it cannot take the image, or has
    other classes. Nothing is decoded but that image and those that a contact sheet shows.
    """
    if list_sets:
        _print_list(as_json=as_json)
        return
    if data.given is None:
        fix = "write soupmerge data digits, or --list"
        raise UsageError("no data set is named", where="data", fix=fix)
    sheet = _sheet(out, force)
    from soupmerge.sources.images.preprocessing import Preprocessing

    net: Any = None if model is None else sm.model(model)
    images = replace(data.given, like=net or Preprocessing()).unnoted()
    summary = sm.summarise(images, net)
    if as_json:
        show.dump(summary.to_json())
    else:
        show.table([images.ref, ""], summary.rows())
    if sheet is not None:
        from soupmerge.figures import contact_sheet, style

        style.save(contact_sheet.contact_sheet(images), sheet, [sheet.suffix[1:]])
        show.note(f"written to {sheet}")
    if summary.misfit:
        raise click.exceptions.Exit(1)


def _print_list(*, as_json: bool) -> None:
    """Print the published data sets that have a name, and where they are looked for."""
    from soupmerge.sources.images.known import home_of

    names = {
        name: f"{name}:KIND-STRENGTH" if known.is_corrupted else name
        for name, known in KNOWN_SETS.items()
    }
    if as_json:
        show.dump(
            [
                {
                    "name": names[name],
                    "title": known.title,
                    "images": {split: part.images for split, part in known.parts.items()},
                    "classes": known.classes,
                    "label_space": known.space or None,
                    "site": known.site,
                    "terms": known.terms,
                    "folder": str(home_of(name)),
                    "found": home_of(name).is_dir(),
                }
                for name, known in KNOWN_SETS.items()
            ]
        )
        return
    rows = [
        [
            names[name],
            known.title,
            ", ".join(f"{split} {part.images:,}" for split, part in known.parts.items()),
            f"{known.classes:,}",
            "found" if home_of(name).is_dir() else "",
        ]
        for name, known in KNOWN_SETS.items()
    ]
    show.table(["name", "data set", "images", "classes", "here"], rows, "published data sets")
    folder = home_of("imagenet").parent
    show.line(f"looked for in {folder}/NAME; NAME:PATH is elsewhere; nothing is downloaded")


def _sheet(out: str | None, force: bool) -> Path | None:
    """Return the path of the contact sheet, if there is to be one, after checking it.

    Raises:
        UsageError: its suffix is not that of a figure.
        OutputError: it exists, and is not to be replaced.
    """
    if out is None:
        return None
    from soupmerge.storage.commit import check_free

    path = Path(out)
    if path.suffix[1:] not in FIGURE_FORMATS:
        fix = f"name a file that ends in .{', .'.join(FIGURE_FORMATS)}"
        raise UsageError("is not the name of a figure", where=out, fix=fix)
    check_free(path, force=force)
    return path

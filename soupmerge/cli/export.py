"""``soupmerge export``: a soup as a folder that timm and the Hub can load, with a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from soupmerge.cli import show
from soupmerge.cli.options import output, points
from soupmerge.cli.options.machine import common
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command

if TYPE_CHECKING:
    from soupmerge.exports.folder import Exported


@click.command(cls=Command)
@click.argument("soup", metavar="SOUP")
@click.option("-o", "--out", required=True, metavar="DIR", help="A folder that does not exist yet.")
@click.option(
    "--judged", metavar="RUN", help="Run folder of soupmerge eval SOUP, for the model card."
)
@points.at
@output.licence
@network
@output.as_json
@common
def command(
    soup: str,
    out: str,
    judged: str | None,
    at: str | None,
    licence: str | None,
    network: Network,
    as_json: bool,
) -> None:
    """Write SOUP as a folder to publish: weights, timm's config, recipe, results and model card.

    timm.create_model("local-dir:DIR", pretrained=True) loads it if the network is one of timm's,
    and soupmerge push uploads it to the Hub. SOUP may be a recipe, or a front.json with --at. The
    export is loaded back and compared with SOUP before it appears.
    """
    from soupmerge.exports.folder import export
    from soupmerge.storage.commit import check_free_folder

    check_free_folder(out)
    soup, net = points.point(soup, at), None
    if network.is_given:
        from soupmerge.sources.refs import opened

        net = network.make(like=opened(soup))
    print_export(export(out, soup, net=net, judged=judged, licence=licence), as_json=as_json)


def print_export(exported: Exported, *, as_json: bool) -> None:
    """Print what was exported."""
    row = {
        "folder": str(exported.path),
        "network": exported.network,
        "loaded back by": exported.loader,
        "largest difference of logits": f"{exported.difference:.2g}",
        "sha256": exported.sha256,
    }
    if as_json:
        show.dump(row)
        return
    show.table(list(row), [list(row.values())])
    if exported.loader != "timm":
        show.note(
            f"{exported.network} is not one of timm's networks: only soupmerge loads the folder"
        )

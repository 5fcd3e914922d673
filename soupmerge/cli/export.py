"""``soupmerge export``: a soup as a folder that timm and the Hub load, with its model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from soupmerge.cli import show
from soupmerge.cli.options import output
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.machine import debug
from soupmerge.cli.options.network import Network, network

if TYPE_CHECKING:
    from soupmerge.exports.folder import Exported


@click.command(cls=Command)
@click.argument("soup", metavar="SOUP")
@click.option("-o", "--out", required=True, metavar="DIR", help="A folder that is not there yet.")
@click.option("--judged", metavar="RUN", help="Run folder of an eval of SOUP, for the card.")
@output.licence
@network
@output.as_json
@debug
def command(
    soup: str,
    out: str,
    judged: str | None,
    licence: str | None,
    network: Network,
    as_json: bool,
) -> None:
    """Write SOUP as a folder to publish: weights, timm's config, recipe, results and model card.

    timm.create_model("local-dir:DIR", pretrained=True) loads it, if the network is timm's, and
    soupmerge push puts it on the Hub. It is loaded back and compared before it appears.
    """
    from soupmerge.exports.folder import export
    from soupmerge.storage.commit import check_free_folder

    check_free_folder(out)
    net = None
    if network.named:
        from soupmerge.sources.refs import opened

        net = network.make(like=opened(soup))
    tell(export(out, soup, net=net, judged=judged, licence=licence), as_json=as_json)


def tell(done: Exported, *, as_json: bool) -> None:
    """Print what was exported."""
    row = {
        "folder": str(done.path),
        "network": done.network,
        "loaded back by": done.loader,
        "largest difference of logits": f"{done.difference:.2g}",
        "sha256": done.sha256,
    }
    if as_json:
        show.dump(row)
        return
    show.table(list(row), [list(row.values())])
    if done.loader != "timm":
        show.note(f"{done.network} is not timm's: only soupmerge loads the folder")

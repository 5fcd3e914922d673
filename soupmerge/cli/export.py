"""``soupmerge export``: a soup as a folder that timm and the Hub load, with its model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from soupmerge.cli import meant, options, show

if TYPE_CHECKING:
    import soupmerge as sm
    from soupmerge.exports.folder import Exported

also = click.option(
    "--export", metavar="DIR", help="Also write a folder to publish; see soupmerge export."
)
"""The option of commands that write a soup."""


@click.command()
@click.argument("soup", metavar="SOUP")
@click.option("-o", "--out", required=True, metavar="DIR", help="A folder that is not there yet.")
@click.option("--judged", metavar="RUN", help="Run folder of an eval of SOUP, for the card.")
@options.licence
@options.model
@options.as_json
@options.debug
def command(soup: str, out: str, judged: str | None, licence: str | None, **given: Any) -> None:
    """Write SOUP as a folder to publish: weights, timm's config, recipe, results and model card.

    timm.create_model("local-dir:DIR", pretrained=True) loads it, if the network is timm's, and
    soupmerge push puts it on the Hub. It is loaded back and compared before it appears.
    """
    from soupmerge.exports.folder import export
    from soupmerge.storage.commit import check_free_folder

    check_free_folder(out)
    net = None
    if given["model"] or given["mean"] or given["std"]:
        from soupmerge.sources.refs import opened

        net = meant.network(given, like=opened(soup))
    tell(export(out, soup, net=net, judged=judged, licence=licence), given["as_json"])


def check(given: dict[str, Any], size: int = 0) -> None:
    """Refuse, before any work, an ``--export`` that is there already or lacks *size* bytes."""
    from soupmerge.storage.commit import check_free_folder, require_room

    if given["export"]:
        check_free_folder(given["export"])
        require_room(given["export"], size)


def exported(soup: str, given: dict[str, Any], *, net: Any, report: sm.Report | None = None) -> Any:
    """Write *soup* to the folder that ``--export`` names, if it does."""
    if not given["export"]:
        return None
    from soupmerge.exports.folder import export

    reports = [report] if report else []
    return export(given["export"], soup, net=net, reports=reports, licence=given["licence"])


def tell(done: Exported, as_json: bool) -> None:
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

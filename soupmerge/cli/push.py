"""``soupmerge push``: publish an exported soup on the Hub."""

from __future__ import annotations

import click

from soupmerge.cli import show
from soupmerge.cli.options import machine, output
from soupmerge.cli.options.option_groups import Command


@click.command(cls=Command)
@click.argument("folder", metavar="DIR")
@click.argument("ref", metavar="hf-hub:owner/name")
@click.option(
    "--private", is_flag=True, help="Create the repository as private; refuse a public one."
)
@output.dry_run
@output.as_json
@machine.common
def command(folder: str, ref: str, private: bool, dry_run: bool, as_json: bool) -> None:
    """Upload to the Hub what soupmerge export wrote to DIR, and verify what arrived there.

    The Hub needs a token with write access: run hf auth login, or set HF_TOKEN. Files in DIR that
    export did not write are not uploaded.
    """
    from soupmerge.exports.folder import require_export
    from soupmerge.sources.hub.refs import HubRef
    from soupmerge.sources.hub.upload import push

    names = require_export(folder)
    target = HubRef.parse(ref)
    if dry_run:
        show.table(["file", "to"], [[name, target] for name in names])
        return
    pushed = push(folder, names, target, private=private)
    if as_json:
        show.dump({"ref": str(pushed.ref), "url": pushed.url, "files": list(names)})
        return
    show.table(["pushed", "files", "page"], [[pushed.ref, len(names), pushed.url]])

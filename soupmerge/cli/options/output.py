"""Where results go: a file or run folder, what may be replaced, JSON, and a folder to publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli.options.grouping import F, grouped

if TYPE_CHECKING:
    from soupmerge.exports.folder import Exported

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force = click.option(
    "--force",
    is_flag=True,
    help="Replace what is at the output; of a run folder, only what a run wrote.",
)
dry_run = click.option("--dry-run", is_flag=True, help="Print the plan, and stop.")
licence = click.option(
    "--licence",
    "--license",
    "licence",
    metavar="ID",
    help="Licence of the export, as the Hub calls it [default: that of all ingredients].",
)
run = click.option(
    "-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself."
)


@dataclass(frozen=True)
class Export:
    """The folder to publish that a command also writes, if it is told to."""

    folder: str | None
    licence: str | None

    def check(self, size: int = 0) -> None:
        """Refuse, before any work, a folder that is there already or has no room for *size* bytes.

        Raises:
            OutputError: as it says.
        """
        from soupmerge.storage.commit import check_free_folder, require_room

        if self.folder:
            check_free_folder(self.folder)
            require_room(self.folder, size)

    def write(self, soup: str, *, net: Any, reports: Sequence[sm.Report] = ()) -> Exported | None:
        """Write the folder from the file *soup*, and return what was written."""
        if not self.folder:
            return None
        from soupmerge.exports.folder import export

        return export(self.folder, soup, net=net, reports=list(reports), licence=self.licence)


def export(command: F) -> F:
    """Add the options of commands that write a soup, and may export it."""
    return grouped(
        "export",
        Export,
        click.option(
            "--export",
            "folder",
            metavar="DIR",
            help="Also write a folder to publish; see soupmerge export.",
        ),
        licence,
    )(command)

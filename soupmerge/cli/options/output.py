"""Options: run folders, files to replace, plans, JSON, and folders to publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli.options.option_groups import Decorator, F, grouped
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.exports.folder import Exported

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force = click.option("--force", is_flag=True, help="Replace the output file if it exists.")
dry_run = click.option("--dry-run", is_flag=True, help="Print the plan, and stop.")
licence = click.option(
    "--licence",
    "--license",
    "licence",
    metavar="ID",
    help="Licence of the export, by its name on the Hub [default: that of all ingredients].",
)
RESUMED = "Run folder; the same command resumes the run"


def require_safetensors(out: str) -> None:
    """Reject an output that is not a .safetensors file.

    Raises:
        UsageError: *out* has another suffix, or none.
    """
    if not out.endswith(".safetensors"):
        what = f"cannot write {Path(out).suffix!r} files" if Path(out).suffix else "has no suffix"
        raise UsageError(what, where=out, fix="name a .safetensors file")


@dataclass(frozen=True)
class OptionalRunOutput:
    """The run folder of a command, if it is given one; it is resumed unless forced to start over.

    Raises:
        OutputError: another process is writing to the folder.
    """

    out: str | None
    force: bool
    dry_run: bool = False

    def __post_init__(self) -> None:
        from soupmerge.storage import run_folder

        if self.out is not None and not self.dry_run:
            run_folder.require_free(self.out)

    def run(self, device: Any, progress: Any) -> sm.Run:
        """Return the folder, the device and the progress bars, as the library takes them."""
        return sm.Run(self.out, self.force, device, progress)


@dataclass(frozen=True)
class RunOutput(OptionalRunOutput):
    """The run folder of a command that needs one; see `OptionalRunOutput`."""

    out: str


def run(*, help: str = RESUMED, required: bool = True, plans: bool = True) -> Decorator:
    """Return the options of a run folder; *plans* says whether there is a --dry-run."""
    return grouped(
        "output",
        RunOutput if required else OptionalRunOutput,
        click.option("-o", "--out", required=required, metavar="RUN", help=f"{help}."),
        click.option(
            "--force",
            is_flag=True,
            help="Start over if the run folder holds a run: what that run wrote is deleted.",
        ),
        *([dry_run] if plans else []),
    )


@dataclass(frozen=True)
class Export:
    """The folder to publish that a command writes beside its soup, if one is given."""

    folder: str | None
    licence: str | None

    def check(self, size: int = 0) -> None:
        """Reject, before any work, a folder that exists or has no room for *size* bytes.

        Raises:
            OutputError: the folder exists, cannot be created, or has too little room.
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
    """Add the options of commands that write a soup and can export it."""
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

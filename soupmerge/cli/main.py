"""``soupmerge COMMAND``: finds the command; what goes wrong becomes one line and a status."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import signal
import sys
import traceback
import warnings
from typing import Any, NoReturn, TextIO

import click

from soupmerge.errors import OutputError, SoupmergeError, near_miss, printable

COMMANDS = (
    "demo",
    "pull",
    "inspect",
    "check",
    "convert",
    "mix",
    "grid",
    "greedy",
    "path",
    "search",
    "select",
    "adapt",
    "learn",
    "eval",
    "landscape",
    "finetune",
    "report",
    "export",
    "push",
)
INTERRUPTED, TERMINATED = 130, 143
RESUMABLE = {"demo", "grid", "greedy", "path", "search", "adapt", "learn", "landscape", "finetune"}
RESUMABLE_WITH_OUT = {"check", "eval"}
"""Commands that keep what is finished, always or where they are given a run folder."""


class Commands(click.Group):
    """The commands, each in the file of its name, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all commands, in the order in which one would meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"soupmerge.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that went away (`| head`) is no error of ours."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which was meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}; {near_miss(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="soupmerge")
@click.pass_context
def cli(context: click.Context) -> None:
    """Merge image-classifier checkpoints into soups, and know what they do under attack.

    Start with `soupmerge demo`. Threats are written linf:8/255, l2:0.5 or l1:12; every command
    takes -h.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line, and exit."""
    warnings.showwarning = _warn
    signal.signal(signal.SIGTERM, _terminate)
    status = None
    try:
        status = run(sys.argv[1:])
        _ignore_signals()
    except (KeyboardInterrupt, _TerminatedError):
        # A second one: either while the first was dealt with, or when all was done.
        _ignore_signals()
    if status is None:
        status = _interrupted(INTERRUPTED, sys.argv[1:])
    sys.exit(_close_stdout() or status)


def _ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(arguments: list[str]) -> int:
    """Run the command that *arguments* name, and return its exit status."""
    try:
        result = cli.main(args=arguments, prog_name="soupmerge", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        _say("error", error.format_message())
        return 2
    except SoupmergeError as error:
        return _failed(error, error.exit_status, arguments)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(INTERRUPTED, arguments)
    except _TerminatedError:
        return _interrupted(TERMINATED, arguments)
    except MemoryError as error:
        what = f"not enough memory: {error}; free some, or give smaller files or batches"
        return _failed(what, OutputError.exit_status, arguments)
    except OSError as error:  # the system said no where no room expected it
        what = f"{error.filename or 'output'}: {error.strerror or error}"
        return _failed(what, OutputError.exit_status, arguments)
    except Exception as error:  # the last line of defence: a bug becomes one line and a status
        reason = " ".join(str(error).split())
        what = f"{type(error).__name__}: {reason} (a bug of ours; --debug shows where)"
        return _failed(what, SoupmergeError.exit_status, arguments)


class _TerminatedError(BaseException):
    """The process was asked to end."""


def _terminate(number: int, frame: Any) -> None:
    raise _TerminatedError


def _interrupted(status: int, arguments: list[str]) -> int:
    again = shlex.join(["soupmerge", *arguments])
    if keeps(arguments):
        _say("interrupted", f"what was finished is kept; go on with: {again}")
    else:
        _say("interrupted", f"nothing was kept; start again with: {again}")
    return status


def keeps(arguments: list[str]) -> bool:
    """Return whether the command that *arguments* name goes on where it was interrupted."""
    command = arguments[0] if arguments else ""
    out = any(word.startswith(("--out", "-o")) for word in arguments[1:])
    return command in RESUMABLE or (command in RESUMABLE_WITH_OUT and out)


def _failed(what: object, status: int, arguments: list[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    _say("error", str(what))
    return status


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say("warning", str(message))


def _say(kind: str, text: str) -> None:
    lines = "\n".join(printable(line) for line in text.splitlines())
    with contextlib.suppress(OSError):
        click.echo(f"soupmerge: {kind}: {lines}", err=True)


def _close_stdout() -> int:
    """Flush here, where it can be said what went wrong; return the status if something did."""
    if sys.stdout is None:
        return 0
    status = 0
    try:
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # a reader that went away (`| head`) is no error of ours
        pass
    except OSError as error:
        status = OutputError.exit_status
        _say("error", f"standard output: {error.strerror}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status

"""``soupmerge COMMAND``: runs a command, and turns errors into one line and an exit status."""

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

COMMANDS = {
    "demo": "Run the whole workflow on scikit-learn's digits: fine-tune, check, grid, learn, "
    "front.",
    "pull": "Download the current version of each REF into the cache, and check its hash.",
    "inspect": "Show the contents of checkpoints: tensors, dtypes, NaN, removed wrappers, family "
    "tree.",
    "data": "Show what a data set holds: classes, images per class, sizes, and its fingerprint.",
    "check": "Check that checkpoints fit together, and measure whether they share a loss basin.",
    "convert": "Write the weights of one checkpoint as safetensors, even if its pickle names code.",
    "mix": "Write one soup, by one coefficient for each REF or by a recipe.",
    "grid": "Judge every soup whose coefficients are multiples of a step, and write the best.",
    "greedy": "Average ingredients one by one; each stays if the soup is no worse with it.",
    "path": "Judge soups on the line from one model to another, and their gain over the chord.",
    "search": "Search the soups of many checkpoints, where a grid would be too large.",
    "select": "Choose the best soup in a metric, under conditions, from runs of one benchmark.",
    "adapt": "Choose soups for shifted images on a few labelled ones, and judge them on the "
    "others.",
    "learn": "Learn the coefficients of a soup by adversarial training; the ingredients stay "
    "fixed.",
    "front": "Learn a soup for every trade-off between objectives, in one run, and judge some.",
    "eval": "Judge networks: clean accuracy, accuracy under each threat, and under their union.",
    "landscape": "Measure clean and robust loss and accuracy on the plane through three "
    "checkpoints.",
    "finetune": "Fine-tune BASE against a threat, or train a new network if BASE is left out.",
    "report": "Draw the figures of run folders, and write one page that shows all their soups.",
    "export": "Write SOUP as a folder to publish: weights, timm's config, recipe, results and "
    "model card.",
    "push": "Upload to the Hub what soupmerge export wrote to DIR, and verify what arrived there.",
}
"""Command → the first sentence of its help, in the order of a typical workflow."""
INTERRUPTED, TERMINATED = 130, 143
RESUMABLE = {"demo", "grid", "greedy", "path", "search", "adapt", "learn", "front"}
RESUMABLE |= {"landscape", "finetune"}
RESUMABLE_WITH_OUT = {"check", "eval"}
"""Commands that keep finished work: always, or only with a run folder."""


class Commands(click.Group):
    """The commands, each in the file of its name, which is imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of a typical workflow."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command *cmd_name*, or None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"soupmerge.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for --help, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a closed pipe (`| head`) is not an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or fail with the name that is most similar."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"unknown command {args[0]!r}; {near_miss(args[0], COMMANDS)}", ctx
            )
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="soupmerge")
@click.pass_context
def cli(context: click.Context) -> None:
    """Merge image-classifier checkpoints into model soups, and judge them under attack.

    Start with `soupmerge demo`. Threat models are written linf:8/255, l2:0.5 or l1:12. Every
    command has -h.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line, and exit."""
    warnings.showwarning = _warn
    signal.signal(signal.SIGTERM, _raise_terminated)
    status = None
    try:
        status = run(sys.argv[1:])
        _ignore_signals()
    except (KeyboardInterrupt, _TerminatedError):
        # A second signal, while the first was handled or after the work was done.
        _ignore_signals()
    if status is None:
        status = _report_interruption(INTERRUPTED, sys.argv[1:])
    sys.exit(_close_stdout() or status)


def _ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(arguments: list[str]) -> int:
    """Run the command in *arguments*, and return its exit status."""
    try:
        status = cli.main(args=arguments, prog_name="soupmerge", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        _print("error", error.format_message())
        return 2
    except SoupmergeError as error:
        return _report_error(error, error.exit_status, arguments)
    except (KeyboardInterrupt, click.Abort):
        return _report_interruption(INTERRUPTED, arguments)
    except _TerminatedError:
        return _report_interruption(TERMINATED, arguments)
    except MemoryError as error:
        what = f"not enough memory: {error}; free some, or use smaller files or batches"
        return _report_error(what, OutputError.exit_status, arguments)
    except OSError as error:  # where no other code expected the system to fail
        what = f"{error.filename or 'output'}: {error.strerror or error}"
        return _report_error(what, OutputError.exit_status, arguments)
    except Exception as error:  # a bug, which becomes one line and a status as well
        reason = " ".join(str(error).split())
        what = f"{type(error).__name__}: {reason} (a bug of ours; --debug shows where)"
        return _report_error(what, SoupmergeError.exit_status, arguments)


class _TerminatedError(BaseException):
    """The process received SIGTERM."""


def _raise_terminated(number: int, frame: Any) -> None:
    raise _TerminatedError


def _report_interruption(status: int, arguments: list[str]) -> int:
    again = shlex.join(["soupmerge", *arguments])
    if is_resumable(arguments):
        _print("interrupted", f"finished work was kept; resume with: {again}")
    else:
        _print("interrupted", f"nothing was kept; start again with: {again}")
    return status


def is_resumable(arguments: list[str]) -> bool:
    """Return whether the command in *arguments* resumes where it was interrupted."""
    command = arguments[0] if arguments else ""
    out = any(word.startswith(("--out", "-o")) for word in arguments[1:])
    return command in RESUMABLE or (command in RESUMABLE_WITH_OUT and out)


def _report_error(what: object, status: int, arguments: list[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    _print("error", str(what))
    return status


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _print("warning", str(message))


def _print(kind: str, text: str) -> None:
    lines = "\n".join(printable(line) for line in text.splitlines())
    with contextlib.suppress(OSError):
        click.echo(f"soupmerge: {kind}: {lines}", err=True)


def _close_stdout() -> int:
    """Flush standard output while errors can still be reported; return the exit status."""
    if sys.stdout is None:
        return 0
    status = 0
    try:
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # a closed pipe (`| head`) is not an error
        pass
    except OSError as error:
        status = OutputError.exit_status
        _print("error", f"standard output: {error.strerror}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status

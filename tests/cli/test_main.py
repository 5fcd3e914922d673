"""How errors, interruptions and results become messages and exit statuses."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import soupmerge as sm
from soupmerge.cli import main, show
from soupmerge.errors import InputError, NetworkError

ENDS: dict[str, tuple[Any, int, str]] = {
    # what the command does, its status, and what is said
    "nothing": (None, 0, ""),
    "a status": (1, 1, ""),
    "text": ("text", 0, ""),
    "an exit": (click.exceptions.Exit(1), 1, ""),
    "usage": (click.UsageError("no such thing"), 2, "soupmerge: error: no such thing\n"),
    "input": (InputError("is odd", where="x"), 3, "soupmerge: error: x: is odd\n"),
    "network": (NetworkError("is silent"), 6, "soupmerge: error: is silent\n"),
    "memory": (
        MemoryError("too much"),
        5,
        "soupmerge: error: not enough memory: too much; free some, or use smaller files or "
        "batches\n",
    ),
    "a file": (OSError(28, "No space", "x"), 5, "soupmerge: error: x: No space\n"),
    "no file": (OSError(28, "No space"), 5, "soupmerge: error: output: No space\n"),
    "no reason": (OSError("odd"), 5, "soupmerge: error: output: odd\n"),
    "a bug": (
        KeyError("a\nb"),
        70,
        "soupmerge: error: KeyError: 'a\\nb' (a bug of ours; --debug shows where)\n",
    ),
    "a long bug": (
        ValueError("a\n  b"),
        70,
        "soupmerge: error: ValueError: a b (a bug of ours; --debug shows where)\n",
    ),
    "an interrupt": (
        KeyboardInterrupt(),
        130,
        "soupmerge: interrupted: nothing was kept; start again with: soupmerge inspect 'a b'\n",
    ),
    "an abort": (
        click.Abort(),
        130,
        "soupmerge: interrupted: nothing was kept; start again with: soupmerge inspect 'a b'\n",
    ),
    "an end": (
        main._TerminatedError(),
        143,
        "soupmerge: interrupted: nothing was kept; start again with: soupmerge inspect 'a b'\n",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_command_ends_with_its_status(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    does, status, said = ENDS[name]

    def command(args: list[str], prog_name: str, standalone_mode: bool) -> Any:
        assert (args, prog_name, standalone_mode) == (["inspect", "a b"], "soupmerge", False)
        if isinstance(does, BaseException):
            raise does
        return does

    monkeypatch.setattr(main.cli, "main", command)
    assert main.run(["inspect", "a b"]) == status
    caught = capsys.readouterr()
    assert (caught.out, caught.err) == ("", said)


@pytest.mark.parametrize("error", [InputError("is odd"), OSError("odd"), ValueError("odd")])
def test_debug_shows_where(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(args: list[str], **options: Any) -> Any:
        raise error

    monkeypatch.setattr(main.cli, "main", command)
    main.run(["inspect", "a", "--debug"])
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("soupmerge: error: ")


RESUMES = {
    "": False,
    "grid": True,
    "eval a": False,
    "eval a -o run": True,
    "eval a -orun": True,
    "check a --out=run": True,
    "mix a -o x": False,
    "eval": False,
    "-o eval": False,
}


@pytest.mark.parametrize("line", RESUMES)
def test_a_command_that_keeps_its_work_can_be_resumed(line: str) -> None:
    assert main.is_resumable(line.split()) == RESUMES[line]


class Stream(io.StringIO):
    """Standard output that fails when it is flushed."""

    def __init__(self, error: OSError | None) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        if self.error:
            raise self.error

    def fileno(self) -> int:
        return 99


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space"), 5, "soupmerge: error: standard output: No space\n"),
    ],
    ids=["well", "a pipe", "a disk"],
)
def test_what_is_left_of_the_output_is_written_while_errors_can_be_told(
    error: OSError | None,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replaced = []
    monkeypatch.setattr(sys, "stdout", Stream(error))
    monkeypatch.setattr(main.os, "dup2", lambda old, new: replaced.append(new))
    assert main._close_stdout() == status
    assert replaced == ([99] if error else []), "later flushes go nowhere"
    assert capsys.readouterr().err == said
    monkeypatch.setattr(sys, "stdout", None)
    assert main._close_stdout() == 0


def test_control_characters_and_lines_of_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    main._print("error", "a\x1b[31m\nb")
    assert capsys.readouterr().err == "soupmerge: error: a\\x1b[31m\nb\n"


def test_a_command_that_is_not_known_is_none() -> None:
    context = click.Context(main.cli)
    assert main.cli.get_command(context, "grod") is None
    assert main.cli.list_commands(context) == list(main.COMMANDS)


# ---- Progress on a terminal.


def test_bars_say_what_is_done_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show.Progress() as progress:
        progress("images", 5, 6, "a note")
        progress("soups", 1, 2)
    caught = capsys.readouterr()
    assert caught.out == ""
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", caught.err)
    assert re.search(r"images ━+.* 5/6 .*\(a note\)", drawn)
    assert re.search(r"soups +━+.* 1/2 ", drawn)


def test_a_bar_begins_again_where_less_is_done_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show.Progress() as progress:
        resets: list[int] = []
        monkeypatch.setattr(
            progress.bars, "reset", lambda task, **settings: resets.append(settings["total"])
        )
        for done, again in ((3, False), (4, False), (2, True), (1, True), (2, False), (0, True)):
            before = len(resets)
            progress("images", done, 10 + done)
            assert (len(resets) > before) == again, done
            if again:
                assert resets[-1] == 10 + done


@pytest.mark.parametrize(
    ("column", "right"),
    [(["1", "2.5%"], True), (["-3", "–"], True), (["1", "x"], False), (["", "1"], True)],
)
def test_a_column_of_numbers_is_told_from_one_of_words(column: list[str], right: bool) -> None:
    assert show._numeric([["name", cell] for cell in column], 1) == right


def test_nothing_is_quiet_or_verbose_outside_of_commands() -> None:
    assert not show.is_quiet()
    assert not show.is_verbose()
    with click.Context(click.Command("grid")) as context:
        context.meta[show.VERBOSE] = True
        assert (show.is_quiet(), show.is_verbose()) == (False, True)


def test_json_keeps_letters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show.dump({"name": "soupé", "n": [1]})
    assert capsys.readouterr().out == '{\n "name": "soupé",\n "n": [\n  1\n ]\n}\n'


# ---- Names of tables.


def test_names_lose_the_folder_that_all_share_and_no_more() -> None:
    from soupmerge.cli import results

    shared = results.without_common_folder
    assert shared(["/x/run1/a", "/x/run2/a"]) == ["run1/a", "run2/a"]
    assert shared(["/x/a.pt"]) == ["/x/a.pt"]
    assert shared(["a1", "a2"]) == ["a1", "a2"]


Typed = Callable[..., Any]


@pytest.mark.parametrize(
    ("buffers", "weights", "base", "note"),
    [
        ("base", "0.25,0.75", 1, "those of ingredient 1, whose coefficient is 0.25; --base"),
        ("base", "0.75,0.25", 2, "those of ingredient 2, whose coefficient is 0.25; --base"),
        ("base", "0.75,0.25", 1, "batch-norm statistics are copied, not re-estimated"),
        ("average", "0.75,0.25", 1, "batch-norm statistics are averaged, not re-estimated"),
        ("average", "1,0", 1, ""),
        ("base", "1,0", 1, ""),
    ],
)
def test_mix_notes_where_statistics_come_from(
    soupmerge: Typed,
    ingredients: list[Path],
    tmp_path: Path,
    buffers: str,
    weights: str,
    base: int,
    note: str,
) -> None:
    line = ["mix", *ingredients[:2], "-w", weights, "--buffers", buffers, "--base", base]
    said = soupmerge(*line, "-o", tmp_path / "x.safetensors")
    assert said.status == 0
    assert (note in said.err) if note else said.err == ""


def test_networks_without_statistics_get_no_note_on_them(soupmerge: Typed, tmp_path: Path) -> None:
    import torch

    for i, name in enumerate("ab"):
        sm.save(tmp_path / f"{name}.safetensors", {"w": torch.ones(2) + i / 8})
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    said = soupmerge("mix", *files, "-w", "uniform", "-o", tmp_path / "x.safetensors")
    assert (said.status, said.err) == (0, "")


def test_the_list_of_commands_says_the_first_sentence_of_each() -> None:
    context = click.Context(main.cli)
    for name, sentence in main.COMMANDS.items():
        command = main.cli.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str() == sentence

"""Signals, pipes, full disks and poor terminals: how a command ends in a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import soupmerge as sm
from soupmerge.cli.demo import story
from soupmerge.cli.main import RESUMABLE, cli, run

Typed = Callable[..., Any]


def test_a_control_character_in_a_name_does_not_reach_the_terminal(
    soupmerge: Typed, tmp_path: Path
) -> None:
    state = {"evil\x1b[31m\nname": torch.tensor([float("nan")]), "b": torch.ones(1)}
    sm.save(tmp_path / "a.safetensors", state)
    result = soupmerge("inspect", tmp_path / "a.safetensors")
    assert result.status == 3
    assert "\x1b" not in result.err
    assert "\\x1b[31m\\nname" in result.err


def test_a_bug_is_one_line_and_debug_shows_where(
    soupmerge: Typed, larder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*args: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(sm.Checkpoint, "rows", bug)
    result = soupmerge("inspect", larder / "a.safetensors")
    assert result.status == 70
    assert result.err.count("\n") == 1
    assert "Traceback" in soupmerge("inspect", larder / "a.safetensors", "--debug").err


def test_a_full_disk_behind_standard_output(larder: Path) -> None:
    with (
        open("/dev/full", "w") as full,
        start("inspect", larder / "a.safetensors", stdout=full) as process,
    ):
        _, err = process.communicate()
    assert process.returncode == 5
    assert "No space left" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(larder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start("inspect", larder / "a.safetensors", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate()
    assert process.returncode == 0
    assert err == ""


# ---- in processes of their own


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "soupmerge", *map(str, words)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    # Who runs tests in the background may have had interrupts ignored, which is inherited.
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, **options)


def test_a_closed_pipe_is_no_error(larder: Path) -> None:
    with start("inspect", *larder.glob("?.safetensors")) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_demo_s_commands_can_all_be_parsed() -> None:
    for _, line in story("some where"):
        words = shlex.split(line)
        above = click.Context(cli, **cli.context_settings)
        command = cli.get_command(above, words[0])
        assert command is not None
        command.make_context(words[0], words[1:], parent=above)


@pytest.mark.skipif(os.name == "nt", reason="no LANG=C there")
def test_a_terminal_without_unicode_is_no_error() -> None:
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    process = start("pull", "--list", "rb", env={**os.environ, **poor})
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "rb:cifar10/Linf/" in out


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        *((f"{command} a b -o run", True) for command in sorted(RESUMABLE)),
        ("eval a --data digits -o run", True),
        ("check a b --out=run", True),
        ("eval a --data digits", False),
        ("mix a b -w uniform -o soup.safetensors", False),
        ("inspect a", False),
        ("", False),
    ],
)
def test_an_interrupted_command_says_whether_anything_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, kept: bool
) -> None:
    def interrupted(**settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    assert run(line.split()) == 130
    said = capsys.readouterr().err
    assert ("finished work was kept; resume with: " in said) == kept
    assert ("nothing was kept; start again with: " in said) != kept
    assert said.endswith(f"soupmerge {line}".rstrip() + "\n")

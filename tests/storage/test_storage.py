"""Whole files or none, journals that survive, one writer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soupmerge.errors import InputError, OutputError, UsageError
from soupmerge.storage import commit, run
from soupmerge.storage.journal import Journal


def test_a_file_appears_whole_and_with_the_mode_of_the_umask(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with commit.committed(target) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def fail() -> None:
        with commit.committed(target, force=True) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_failing_disk_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*args: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "a"
    target.write_bytes(b"old")
    monkeypatch.setattr(call, fails)
    with pytest.raises(OutputError, match="No space left"):
        commit.write_text(target, "new", force=True)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    commit.write_text(tmp_path / "link", "new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_dead_writer_s_draft_is_swept(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    draft = tmp_path / f".a.{int(child.stdout)}.tmp"
    draft.write_text("half")
    commit.write_text(tmp_path / "a", "new")
    assert not draft.exists()


@pytest.mark.parametrize("pid", ["²", "٣", "-1", "x", "", f"{os.getppid()}"])
def test_what_is_no_dead_writer_s_draft_stays(tmp_path: Path, pid: str) -> None:
    other = tmp_path / f".a.{pid}.tmp"
    other.write_text("not ours")
    commit.write_text(tmp_path / "a", "new")
    assert other.read_text() == "not ours"


def test_a_draft_of_a_process_that_cannot_be_is_swept(tmp_path: Path) -> None:
    draft = tmp_path / f".a.{2**40}.tmp"
    draft.write_text("half")
    commit.write_text(tmp_path / "a", "new")
    assert not draft.exists()


def test_outputs_that_cannot_be_meant(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "hard")
    (tmp_path / "soft").symlink_to(tmp_path / "a")
    for alias in ("a", "hard", "soft"):
        with pytest.raises(UsageError, match="also an input"):
            commit.check_free(tmp_path / alias, force=True, inputs=[tmp_path / "a"])
    with pytest.raises(OutputError, match="exists already"):
        commit.check_free(tmp_path / "a")
    with pytest.raises(OutputError, match="there is no folder"):
        commit.check_free(tmp_path / "nowhere" / "a")
    with pytest.raises(OutputError, match="is a folder"):
        commit.check_free(tmp_path, force=True)


def journal_of(path: Path, n: int) -> Journal:
    journal = Journal(path)
    for i in range(n):
        journal.append({"trial": i, "text": "é\n", "x": 0.1 + i})
    return journal


def test_a_journal_reads_back_what_was_written(tmp_path: Path) -> None:
    written = journal_of(tmp_path / "j.jsonl", 3).records
    assert Journal(tmp_path / "j.jsonl").records == written


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_a_torn_last_line_is_dropped_and_kept_aside(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "j.jsonl"
    written = journal_of(path, 3).records
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    with pytest.warns(UserWarning, match="torn"):
        assert Journal(path).records == written[:2]
    assert (tmp_path / "j.jsonl.torn").read_bytes() == whole[:-lost]
    again = Journal(path)
    again.append(written[2])
    assert path.read_bytes() == whole


def test_damage_before_the_last_line_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal_of(path, 3)
    text = path.read_text().splitlines()
    text[1] = text[1].replace('"trial": 1', '"trial": 7')
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(InputError, match="line 2 is damaged"):
        Journal(path)


def test_a_run_folder_resumes_with_equal_settings_only(tmp_path: Path) -> None:
    with run.opened(tmp_path / "run", {"command": "grid", "settings": {"step": "1/5"}}) as first:
        assert not first.resumed
    with run.opened(tmp_path / "run", {"command": "grid", "settings": {"step": "1/5"}}) as second:
        assert second.resumed
    other = {"command": "grid", "settings": {"step": "1/10"}}
    with (
        pytest.raises(UsageError, match=r"settings.step was '1/5', now '1/10'"),
        run.opened(tmp_path / "run", other),
    ):
        pass


def test_a_folder_of_something_else_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="not a run folder"), run.opened(tmp_path, {}, force=True):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_two_writers_in_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from soupmerge.storage import run\n"
        "try:\n"
        "    with run.opened(sys.argv[1], {'command': 'eval'}): pass\n"
        "except Exception as error: print(error); sys.exit(error.exit_status)"
    )
    with run.opened(tmp_path / "run", {"command": "eval"}):
        other = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True
        )
    assert other.returncode == 5
    assert f"is being written by process {os.getpid()}" in other.stdout

"""Starting a run over: what goes, what stays, and that the folder is a run's all the while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import OutputError
from soupmerge.storage import commit, run_folder
from tests.shared import files_of

ONE, OTHER = {"command": "grid", "settings": 1}, {"command": "grid", "settings": 2}


def begun(path: Path, *mine: str) -> None:
    """Leave a run in the folder *path*, and files of *mine* beside it."""
    with run_folder.opened(path, ONE) as folder:
        folder.journal("trials.jsonl").append({"trial": 0})
        commit.write_text(folder.best("clean"), "{}")
    for name in mine:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")


def test_a_run_is_started_over_and_files_of_others_stay(tmp_path: Path) -> None:
    begun(tmp_path / "run", "notes.txt", "best/shot.png", "soups/a/b.txt")
    with run_folder.opened(tmp_path / "run", OTHER, force=True) as folder:
        assert not folder.resumed
        assert folder.journal("trials.jsonl").records == []
    assert set(files_of(tmp_path / "run")) == {
        *("manifest.json", "notes.txt", "best/shot.png", "soups/a/b.txt")
    }
    assert run_folder.read_manifest(tmp_path / "run")["settings"] == 2


def test_a_start_that_fails_leaves_a_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "run", "notes.txt")

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("is full", where=tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "write_json", full)
        with pytest.raises(OutputError), run_folder.opened(tmp_path / "run", OTHER, force=True):
            pass
    with run_folder.opened(tmp_path / "run", OTHER, force=True) as folder:
        assert not folder.resumed

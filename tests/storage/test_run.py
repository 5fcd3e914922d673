"""A run folder holds one run with one writer: resumed if it is the same, and else refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from soupmerge.errors import InputError, OutputError, UsageError
from soupmerge.storage import run_folder

MANIFEST = {"command": "grid", "settings": {"step": "1/5", "seeds": [1, 2]}, "inputs": []}


def begin(path: Path, manifest: dict[str, Any] | None = None, **settings: Any) -> bool:
    """Open and close the run folder; return whether it was resumed."""
    with run_folder.opened(path, manifest or MANIFEST, **settings) as folder:
        return folder.resumed


def names(path: Path) -> list[str]:
    return sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.name[0] != ".")


# ---- resuming


def test_a_run_is_resumed_with_equal_settings(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "run"
    assert not begin(home)
    written = (home / "manifest.json").read_bytes()
    assert begin(home)
    assert (home / "manifest.json").read_bytes() == written
    parsed = json.loads(written)
    assert parsed == {
        "format": "soupmerge-run/1",
        **MANIFEST,
        "environment": run_folder.environment(),
    }
    assert run_folder.read_manifest(home) == parsed
    assert set(parsed["environment"]) == {"python", "soupmerge", "torch", "timm", "torchvision"}


def changed(**settings: Any) -> dict[str, Any]:
    return {**MANIFEST, "settings": {**MANIFEST["settings"], **settings}}  # type: ignore[dict-item]


OTHERS = {
    "a value": (changed(step="1/10"), ["settings.step was '1/5', now '1/10'"]),
    "one of a list": (changed(seeds=[1, 3]), ["settings.seeds[1] was 2, now 3"]),
    "a longer list": (changed(seeds=[1, 2, 3]), ["settings.seeds was [1, 2], now [1, 2, 3]"]),
    "another kind": (changed(seeds=None), ["settings.seeds was [1, 2], now None"]),
    "a key more": (changed(best="clean"), ["settings.best was absent, now 'clean'"]),
    "a key less": (
        {k: v for k, v in MANIFEST.items() if k != "inputs"},
        ["inputs was [], now absent"],
    ),
    "two things": (
        {**changed(step="1/10"), "command": "path"},
        ["command was 'grid', now 'path'", "settings.step was '1/5', now '1/10'"],
    ),
}


@pytest.mark.parametrize(("other", "problems"), OTHERS.values(), ids=OTHERS)
def test_other_settings_are_refused_and_each_difference_is_named(
    tmp_path: Path, other: dict[str, Any], problems: list[str]
) -> None:
    begin(tmp_path / "run")
    (tmp_path / "run" / "trials.jsonl").write_text("kept")
    with pytest.raises(
        UsageError, match=r"(?s)run: holds a run with other settings.*--force"
    ) as caught:
        begin(tmp_path / "run", other)
    assert list(caught.value.problems) == problems
    assert (tmp_path / "run" / "trials.jsonl").read_text() == "kept"
    assert begin(tmp_path / "run")


def test_what_has_a_hash_may_move(tmp_path: Path) -> None:
    def of(ref: str, sha256: str = "00") -> dict[str, Any]:
        found = {"ref": ref, "sha256": sha256, "n": 3, "links": [ref], "classes": [ref]}
        return {**MANIFEST, "inputs": [{"deep": (found,)}], "model": {"ref": "net"}}

    begin(tmp_path / "run", of("here"))
    assert begin(tmp_path / "run", of("there"))
    with pytest.raises(UsageError, match=r"inputs\[0\].deep\[0\].sha256 was '00', now '11'"):
        begin(tmp_path / "run", of("here", "11"))
    with pytest.raises(UsageError, match="model.ref was 'net', now 'other'"):
        begin(tmp_path / "run", {**of("here"), "model": {"ref": "other"}})


def test_another_environment_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert begin(tmp_path / "run")
    monkeypatch.setattr(run_folder, "environment", lambda: {"python": "2"})
    with pytest.warns(UserWarning, match="run: resuming a run started with other versions"):
        assert begin(tmp_path / "run")


# ---- starting over

LEFT = (
    *("trials.jsonl", "history.jsonl", "judged.jsonl", "verdicts.jsonl", "rounds.jsonl"),
    *("trials.jsonl.torn", "race.json", "decisions.json", "plan.json", "doubts.json"),
    *("recipe.json", "adapted.json", "barriers.json", "soup.safetensors", "state.safetensors"),
    *("adversarial.safetensors", "flags.csv", "images.csv", "best/clean.json", "best/l2-1.json"),
    *("figures/map.png", "figures/map.svg", "figures/map.pdf"),
)
"""What commands leave in a run folder."""
THEIRS = (
    *("notes.txt", "soup.pt", "thesis.json", "other.safetensors", "best/why.txt", "table.csv"),
    *("figures/map.tex", "deeper/trials.jsonl", ".hidden", "report.html"),
)
"""What others may put there, or keep of it."""


@pytest.mark.parametrize("other", [False, True])
def test_force_removes_what_a_run_left_and_nothing_else(tmp_path: Path, other: bool) -> None:
    home = tmp_path / "run"
    begin(home)
    for name in (*LEFT, *THEIRS):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(name)
    assert not begin(home, changed(step="1/10") if other else None, force=True)
    for name in THEIRS:
        assert (home / name).read_text() == name
    kept = {"best", "figures", "deeper", "manifest.json", *THEIRS} - {".hidden"}
    assert names(home) == sorted(kept)
    assert begin(home, changed(step="1/10") if other else None)


def test_force_in_an_empty_folder_begins(tmp_path: Path) -> None:
    assert not begin(tmp_path, force=True)
    assert names(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_something_else_is_no_run_folder(tmp_path: Path, force: bool) -> None:
    for name in ("thesis.tex", "soup.safetensors"):
        (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=r"nor a run folder \(it contains 'soup.safetensors'\)"):
        begin(tmp_path, force=force)
    assert names(tmp_path) == ["soup.safetensors", "thesis.tex"]


def test_folders_of_figures_and_hidden_files_are_nothing_foreign(tmp_path: Path) -> None:
    for name in ("best", "figures", ".git"):
        (tmp_path / name).mkdir()
    assert not begin(tmp_path)


# ---- manifests

NO_MANIFEST = {
    "newer": ('{"format": "soupmerge-run/2"}', "soupmerge-run/2.*install a newer soupmerge"),
    "another's": ('{"format": "thesis"}', "'thesis'.*choose another folder"),
    "without a format": ("{}", "None.*choose another folder"),
    "a list": ("[]", "choose another folder"),
    "without a command": ('{"format": "soupmerge-run/1"}', "names no command"),
    "no JSON": ("{", "JSON"),
    "a key twice": ('{"format": "soupmerge-run/1", "format": 1}', "appears twice"),
}


@pytest.mark.parametrize(("text", "words"), NO_MANIFEST.values(), ids=NO_MANIFEST)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_manifest_is_refused_and_left_alone(
    tmp_path: Path, text: str, words: str, force: bool
) -> None:
    (tmp_path / "manifest.json").write_text(text)
    (tmp_path / "trials.jsonl").write_text("kept")
    for read in (run_folder.read_manifest, lambda path: begin(path, force=force)):
        with pytest.raises(InputError, match=rf"manifest\.json: .*{words}"):
            read(tmp_path)
    assert (tmp_path / "trials.jsonl").read_text() == "kept"
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json; name the folder given to -o"):
        run_folder.read_manifest(tmp_path)


# ---- places


def test_a_run_names_its_files(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path / "run", MANIFEST) as folder:
        folder.journal("trials.jsonl").append({"trial": 0})
        assert folder.file("a.csv") == tmp_path / "run" / "a.csv"
        for metric in ("linf:8/255", "0.5*clean+0.5*union", "clean"):
            folder.best(metric).write_text("x")
    left = ["0.5-clean-0.5-union.json", "clean.json", "linf-8-255.json"]
    assert sorted(file.name for file in (tmp_path / "run" / "best").iterdir()) == left
    assert (tmp_path / "run" / "trials.jsonl").exists()


def test_a_run_never_holds_its_input(tmp_path: Path) -> None:
    home = tmp_path / "run"
    (home / "deep").mkdir(parents=True)
    (home / "deep" / "a.safetensors").write_text("x")
    (tmp_path / "link").symlink_to(home / "deep")
    for file in (home / "deep" / "a.safetensors", tmp_path / "link" / "a.safetensors"):
        with pytest.raises(
            UsageError, match=r"run: the run folder contains an input, a\.safetensors"
        ):
            begin(home, inputs=[tmp_path / "elsewhere", file])
    assert not begin(tmp_path / "other", inputs=[home / "deep" / "a.safetensors"])


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=r"file.*: cannot create the folder: .*; choose"):
            begin(path)


def test_room_is_needed_for_what_is_written_beside_the_soup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(
        run_folder.commit, "require_room", lambda path, needed: asked.append((path, needed))
    )
    begin(tmp_path / "run")
    begin(tmp_path / "run", room=500)
    (tmp_path / "run" / "soup.safetensors").write_bytes(bytes(300))
    (tmp_path / "run" / "notes.txt").write_bytes(bytes(10_000))
    begin(tmp_path / "run", room=500)
    begin(tmp_path / "run", room=500, force=True)
    assert [needed - 2**20 for _, needed in asked] == [0, 500, 500, 200]
    assert {path.parent for path, _ in asked} == {tmp_path / "run"}


# ---- one writer


def in_another_process(path: Path) -> tuple[int, str]:
    code = (
        "import sys; from soupmerge.storage import run_folder\n"
        "try:\n"
        "    with run_folder.opened(sys.argv[1], {'command': 'eval'}): pass\n"
        "except Exception as error: print(error); sys.exit(error.exit_status)"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    return ended.returncode, ended.stdout


def test_two_writers_in_one_folder(tmp_path: Path) -> None:
    home = tmp_path / "run"
    with run_folder.opened(home, {"command": "eval"}):
        status, said = in_another_process(home)
        assert status == 5
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
            with pytest.raises(OutputError, match="is being written"):
                begin(home, {"command": "eval"})
        who = f"process {os.getpid()} on {socket.gethostname()}"
        assert f"run: is being written by {who}; wait" in said
        (home / ".holder").unlink()
        assert "is being written by another process" in in_another_process(home)[1]
    assert not (home / ".holder").exists()
    assert in_another_process(home)[0] == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_lets_go_of_its_folder(tmp_path: Path, error: type[BaseException]) -> None:
    def fails() -> None:
        with run_folder.opened(tmp_path / "run", MANIFEST):
            raise error

    with pytest.raises(error):
        fails()
    assert not (tmp_path / "run" / ".holder").exists()
    assert begin(tmp_path / "run")


def test_a_holder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    with run_folder.opened(tmp_path / "run", MANIFEST):
        (tmp_path / "run" / ".holder").unlink()
    assert begin(tmp_path / "run")


def test_a_lock_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"\.lock: cannot be written"):
        begin(tmp_path / "run")

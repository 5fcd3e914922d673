"""Who is told to stay offline asks nobody: no name server, no proxy, no site, by any command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.sources import connections
from tests.shared import Outcome
from tests.sources.levels import NET, Levels, saved

Typed = Callable[..., Outcome]

REFS = ("hf-hub:me/other", "timm:resnet18", "rb:cifar10/Linf/Standard")
OF_REFS = {
    "pull": "pull {ref}",
    "inspect": "inspect {ref}",
    "check": "check {ref} {net}",
    "convert": "convert {ref} -o {out}",
    "mix": "mix {net} {ref} -w 0.5,0.5 -o {out}",
    "grid": "grid {net} {ref} --data digits -o {run}",
    "greedy": "greedy {net} {ref} --data digits -o {run}",
    "path": "path {net} {ref} --data digits -o {run}",
    "search": "search {net} {ref} --data digits -o {run}",
    "adapt": "adapt {net} {ref} --data digits -o {run}",
    "learn": "learn {net} {ref} --eps 0 --data digits -o {run}",
    "eval": "eval {ref} --data digits",
    "landscape": "landscape {net} {ref} {net} --data digits -o {run}",
    "finetune": "finetune {ref} --threat clean --data digits -o {out}",
    "export": "export {ref} -o {run}",
}
OF_DATA = {
    "check": "check {net} {net2} --model {model} --data {data}",
    "mix": "mix {net} {net2} -w 1,0 --model {model} --buffers recalibrate --data {data} -o {out}",
    "grid": "grid {net} {net2} --model {model} --data {data} -o {run}",
    "greedy": "greedy {net} {net2} --model {model} --data {data} -o {run}",
    "path": "path {net} {net2} --model {model} --data {data} -o {run}",
    "search": "search {net} {net2} --model {model} --data {data} -o {run}",
    "adapt": "adapt {net} {net2} --model {model} --data {data} -o {run}",
    "learn": "learn {net} {net2} --eps 0 --model {model} --data {data} -o {run}",
    "eval": "eval {net} --model {model} --data {data}",
    "landscape": "landscape {net} {net2} {net3} --model {model} --data {data} -o {run}",
    "finetune": "finetune {net} --model {model} --threat clean --data {data} -o {out}",
}


@pytest.fixture
def offline(
    soupmerge: Typed,
    hub_at: Callable[[str], None],
    tmp_path: Path,
    unplug: Callable[[], list[Any]],
) -> Callable[..., Outcome]:
    """Type a command with ``--offline``, and see that it touches no socket."""
    hub_at("https://hub.invalid")
    names: dict[str, Any] = {"model": NET, "run": tmp_path / "run"}
    for i, name in enumerate(("net", "net2", "net3")):  # not on a line
        names[name] = tmp_path / f"{name}.safetensors"
        sm.save(names[name], {n: t + i * (t + i) for n, t in Levels().state_dict().items()})
    names["out"] = tmp_path / "out.safetensors"

    touched = unplug()

    def type_(form: str, *more: str, **named: str) -> Outcome:
        ended = soupmerge(*form.format(**names, **named).split(), *more)
        assert touched == []
        return ended

    return type_


@pytest.mark.parametrize("ref", REFS)
@pytest.mark.parametrize("form", OF_REFS.values(), ids=OF_REFS)
def test_offline_asks_no_site_for_weights(
    offline: Callable[..., Outcome], form: str, ref: str
) -> None:
    ended = offline(form, "--offline", ref=ref)
    assert (ended.status, "no site may be asked" in ended.err) == (6, True), ended.err


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "blur-1:cifar10"])
@pytest.mark.parametrize("form", OF_DATA.values(), ids=OF_DATA)
def test_offline_asks_no_site_for_images(
    offline: Callable[..., Outcome], form: str, data: str
) -> None:
    ended = offline(form, "--split", "test", "--offline", data=data)
    assert (ended.status, "no site may be asked" in ended.err) == (6, True), ended.err
    assert "folder:PATH" in ended.err


@pytest.mark.parametrize("name", connections.VARIABLES)
@pytest.mark.parametrize(
    ("said", "is_off"),
    [
        ("1", True),
        ("on", True),
        ("Yes", True),
        ("TRUE", True),
        ("0", False),
        ("", False),
        ("no", False),
    ],
)
def test_variables_say_offline_too(
    name: str, said: str, is_off: bool, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, said)
    assert connections.is_offline() == is_off
    with connections.offline():
        assert connections.is_offline()
        with connections.offline(False):  # who says nothing takes nothing back
            assert connections.is_offline()
    assert connections.is_offline() == is_off


def test_a_list_and_a_push_ask_no_site_either(
    offline: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert offline("pull --list rb", "--offline").status == 0
    (tmp_path / "folder").mkdir()
    saved(tmp_path / "folder" / "model.safetensors")
    for name in ("config.json", "README.md"):
        (tmp_path / "folder" / name).write_text("{}")
    ended = offline("push {folder} hf-hub:me/net", "--offline", folder=str(tmp_path / "folder"))
    assert (ended.status, "no site may be asked" in ended.err) == (6, True), ended.err

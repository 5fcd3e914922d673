"""What is kept of a training comes back as it was, or is refused by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from soupmerge.errors import InputError
from soupmerge.storage.snapshot import Snapshot

TENSORS = {
    "weight/a": torch.arange(6.0).view(2, 3).t(),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 2),
}
POSITION = {"epoch": 3, "step": 1, "loss": 0.1 + 0.2, "name": "ä"}


def test_what_is_kept_comes_back_bit_for_bit(tmp_path: Path) -> None:
    kept = Snapshot(tmp_path / "state.safetensors")
    assert kept.load() is None
    kept.save({"weight/a": torch.ones(1, requires_grad=True)}, {"epoch": 0})
    kept.save(TENSORS, POSITION)
    found = Snapshot(tmp_path / "state.safetensors").load()
    assert found is not None
    assert found[1] == POSITION
    assert found[0].keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[0][name].dtype == tensor.dtype
        assert torch.equal(found[0][name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    kept.clear()
    kept.clear()
    assert kept.load() is None


def test_it_is_due_again_after_so_many_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept = Snapshot(tmp_path / "state.safetensors", seconds=20)
    usual = Snapshot(tmp_path / "state.safetensors")
    for moment, due in ((119.9, False), (120.0, True), (130.0, True)):
        now[0] = moment
        assert kept.due() is due
        assert not usual.due()
    kept.save({}, {})
    for moment, due in ((149.9, False), (150.0, True), (160.0, True)):
        now[0] = moment
        assert kept.due() is due
    assert usual.due()


def file_of(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


FLAT = {"w": torch.ones(2)}
ENTRY = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
DAMAGE = {
    "empty": b"",
    "cut": safetensors.torch.save(FLAT, {"position": "{}"})[:-1],
    "without a position": safetensors.torch.save(FLAT, {"format": "pt"}),
    "without metadata": safetensors.torch.save(FLAT),
    "a position that is no JSON": safetensors.torch.save(FLAT, {"position": "{"}),
    "a position with a key twice": safetensors.torch.save({}, {"position": '{"a": 1, "a": 2}'}),
    "a name twice": file_of(f'{{"a": {ENTRY}, "a": {ENTRY}}}'.encode(), bytes(4)),
    "two positions": file_of(b'{"__metadata__": {"position": "{}", "position": "[]"}}'),
    "200,000 deep": file_of(b"[" * 200_000),
    "no text": file_of(b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    "a header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_refused_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"state\.safetensors: is damaged.*; .*--force"):
        Snapshot(tmp_path / "state.safetensors").load()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "link"):
        with pytest.raises(InputError, match=name):
            Snapshot(tmp_path / name).load()


@pytest.mark.parametrize(
    "error", [KeyError("w"), TypeError("odd\nand long"), ValueError("odd"), RuntimeError("odd")]
)
def test_what_does_not_fit_names_the_file(tmp_path: Path, error: Any) -> None:
    kept = Snapshot(tmp_path / "state.safetensors")
    with pytest.raises(InputError) as caught, kept.restoring():
        raise error
    first = str(error).splitlines()[0]
    assert f"state.safetensors: is not the state of this run: {first}; " in str(caught.value)
    assert "--force" in str(caught.value)
    with pytest.raises(OSError, match="disk"), kept.restoring():
        raise OSError("disk")


def test_the_position_travels_as_json(tmp_path: Path) -> None:
    Snapshot(tmp_path / "s").save(TENSORS, POSITION)
    with safetensors.safe_open(tmp_path / "s", framework="pt") as file:
        assert json.loads(file.metadata()["position"]) == POSITION

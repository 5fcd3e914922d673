"""Checkpoints of every kind in, and what is said of those that cannot be read."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UnsafeError
from soupmerge.storage.run_folder import essence
from soupmerge.weights.files import open_checkpoint

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


def same(checkpoint: sm.Checkpoint, state: dict[str, torch.Tensor] = STATE) -> bool:
    return set(checkpoint) == set(state) and all(
        torch.equal(checkpoint[n], t) and checkpoint[n].dtype == t.dtype for n, t in state.items()
    )


def sharded(folder: Path, suffix: str, write: Callable[[Any, Path], Any]) -> Path:
    folder.mkdir()
    names = list(STATE)
    shards = {n: f"part-{i}{suffix}" for i, n in enumerate(names)}
    for name, shard in shards.items():
        write({name: STATE[name]}, folder / shard)
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {}


def writer(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    WRITERS[make.__name__] = make
    return make


@writer
def single_safetensors(home: Path) -> Path:
    safetensors.torch.save_file(STATE, home / "a.safetensors")
    return home / "a.safetensors"


@writer
def own_file(home: Path) -> Path:
    sm.save(home / "a.safetensors", STATE)
    return home / "a.safetensors"


@writer
def torch_zip(home: Path) -> Path:
    torch.save(STATE, home / "a.pt")
    return home / "a.pt"


@writer
def torch_legacy(home: Path) -> Path:
    torch.save(STATE, home / "a.pth", _use_new_zipfile_serialization=False)
    return home / "a.pth"


@writer
def wrapped_with_an_optimiser(home: Path) -> Path:
    optimiser = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    wrapped = {f"module.{n}": t for n, t in STATE.items()}
    torch.save({"epoch": 3, "net": wrapped, "optimizer": optimiser}, home / "a.ckpt")
    return home / "a.ckpt"


@writer
def folder_of_one(home: Path) -> Path:
    safetensors.torch.save_file(STATE, home / "model.safetensors")
    return home


@writer
def sharded_safetensors(home: Path) -> Path:
    return sharded(home / "s", ".safetensors", safetensors.torch.save_file)


@writer
def sharded_torch(home: Path) -> Path:
    return sharded(home / "s", ".bin", torch.save)


@pytest.mark.parametrize("make", WRITERS.values(), ids=WRITERS)
def test_every_kind_of_checkpoint_reads_alike(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    checkpoint = open_checkpoint(make(tmp_path))
    assert same(checkpoint)
    assert {n: i.shape for n, i in checkpoint.infos.items()} == {
        n: tuple(t.shape) for n, t in STATE.items()
    }


def test_a_safetensors_file_may_bear_a_torch_name(tmp_path: Path) -> None:
    sm.save(tmp_path / "a.safetensors", STATE)
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pt")
    assert same(open_checkpoint(tmp_path / "a.pt"))


def test_what_was_unwrapped_and_stripped_is_said(tmp_path: Path) -> None:
    notes = open_checkpoint(wrapped_with_an_optimiser(tmp_path)).notes
    assert notes == (
        "unwrapped 'net'",
        "ignored 'epoch', 'optimizer'",
        "stripped the prefix 'module.' that all names share",
    )


def test_several_candidates_need_a_key(tmp_path: Path) -> None:
    ema = {n: t + 1 for n, t in STATE.items()}
    torch.save({"model": STATE, "model_ema": ema}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"'model', 'model_ema'.*--weights-key"):
        open_checkpoint(tmp_path / "a.pt")
    assert same(open_checkpoint(tmp_path / "a.pt", weights_key="model_ema"), ema)


def test_a_prefix_is_stripped_only_in_front_and_from_all(tmp_path: Path) -> None:
    names = ["module.a.weight", "block.module.weight"]
    torch.save({n: torch.ones(1) for n in names}, tmp_path / "a.pt")
    assert sorted(open_checkpoint(tmp_path / "a.pt")) == sorted(names)


@pytest.mark.parametrize("first", [b"\x80", b"PK", b" <", b"\x80\x02"])
def test_a_header_s_length_may_begin_like_another_format(tmp_path: Path, first: bytes) -> None:
    """The first 8 bytes are a length, and 1 in 32 of them begins like a pickle."""
    sm.save(tmp_path / "a.safetensors", STATE)
    data = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    wanted = next(n for n in range(length, 1 << 17) if n.to_bytes(8, "little").startswith(first))
    padded = wanted.to_bytes(8, "little") + data[8 : 8 + length].ljust(wanted) + data[8 + length :]
    (tmp_path / "a.safetensors").write_bytes(padded)
    assert same(open_checkpoint(tmp_path / "a.safetensors"))


class Canary:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("canary",)


def with_code(home: Path) -> Path:
    torch.save({"w": torch.ones(1), "x": Canary()}, home / "a.pt")
    return home / "a.pt"


def plain_pickle(home: Path) -> Path:
    (home / "a.pkl").write_bytes(pickle.dumps(Canary()))
    return home / "a.pkl"


def text(content: bytes) -> Callable[[Path], Path]:
    def make(home: Path) -> Path:
        (home / "a.safetensors").write_bytes(content)
        return home / "a.safetensors"

    return make


def truncated(make: Callable[[Path], Path], keep: float) -> Callable[[Path], Path]:
    def cut(home: Path) -> Path:
        path = make(home)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return cut


def traversal(home: Path) -> Path:
    index = {"weight_map": {"w": "../secret.safetensors"}}
    (home / "model.safetensors.index.json").write_text(json.dumps(index))
    return home


def missing_shard(home: Path) -> Path:
    (sharded_torch(home) / "part-1.bin").unlink()
    return home / "s"


def torchscript(home: Path) -> Path:
    torch.save(STATE, home / "a.pt")
    with zipfile.ZipFile(home / "a.pt", "a") as archive:
        archive.writestr("a/constants.pkl", b"")
    return home / "a.pt"


def deep_index(home: Path) -> Path:
    (home / "model.safetensors.index.json").write_text("[" * 100_000)
    return home


def lacking_a_tensor(home: Path) -> Path:
    folder = sharded_torch(home)
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    index["weight_map"]["gone"] = "part-0.bin"
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def fifo(home: Path) -> Path:
    os.mkfifo(home / "pipe")
    return home / "pipe"


def no_tensors(home: Path) -> Path:
    torch.save({"epoch": 3, "args": [1, 2]}, home / "a.pt")
    return home / "a.pt"


def sparse(home: Path) -> Path:
    torch.save({"w": torch.eye(3).to_sparse()}, home / "a.pt")
    return home / "a.pt"


def complex_dtype(home: Path) -> Path:
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, home / "a.pt")
    return home / "a.pt"


BAD: dict[str, tuple[Callable[[Path], Path], type[SoupmergeError], str]] = {
    "missing": (lambda home: home / "no.pt", InputError, "no such file"),
    "empty": (text(b""), InputError, "empty"),
    "web page": (text(b"<!DOCTYPE html><html>"), InputError, "web page"),
    "lfs pointer": (text(b"version https://git-lfs.github.com/spec/v1\n"), InputError, "Git LFS"),
    "foreign": (text(b"\x89PNG\r\n\x1a\n00000000000"), InputError, "is not a checkpoint"),
    "header too long": (
        text((1 << 62).to_bytes(8, "little") + b"{}"),
        InputError,
        "4,611,686,018,427,387,904 bytes long, but the file has 10",
    ),
    "truncated safetensors": (truncated(single_safetensors, 0.9), InputError, "damaged"),
    "truncated zip": (truncated(torch_zip, 0.5), InputError, "damaged"),
    "truncated legacy": (truncated(torch_legacy, 0.5), InputError, "damaged"),
    "code": (with_code, UnsafeError, "mkdir"),
    "plain pickle": (plain_pickle, UnsafeError, "more than tensors"),
    "index out of its folder": (traversal, UnsafeError, "may be outside its folder"),
    "missing shard": (missing_shard, InputError, "part-1.bin"),
    "empty folder": (lambda home: home, InputError, "found none"),
    "torchscript": (torchscript, UnsafeError, "TorchScript"),
    "index of a missing tensor": (lacking_a_tensor, InputError, "'gone' should be in part-0.bin"),
    "deep index": (deep_index, InputError, "nested too deeply"),
    "fifo": (fifo, InputError, "not a regular file"),
    "no tensors": (no_tensors, InputError, "no state dict"),
    "sparse": (sparse, InputError, "w: is sparse"),
    "complex": (complex_dtype, InputError, "complex64"),
}


@pytest.mark.parametrize(("make", "kind", "words"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_with_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    kind: type[SoupmergeError],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = make(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        open_checkpoint(path)
    assert str(tmp_path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not Path("canary").exists()


def test_links_out_of_a_folder_are_recorded_but_decide_nothing(tmp_path: Path) -> None:
    fingerprints = []
    for home in ("here", "there", "repo/blobs"):
        (tmp_path / home).mkdir(parents=True)
        safetensors.torch.save_file(STATE, tmp_path / home / "a.safetensors")
        folder = tmp_path / "other" / "snapshots" / home
        folder.mkdir(parents=True)
        (folder / "model.safetensors").symlink_to(tmp_path / home / "a.safetensors")
        [found] = sm.load(folder).fingerprint()
        assert len(found["links"]) == 1
        assert found["links"][0].startswith("model.safetensors is a link")
        assert str(tmp_path / home) in found["links"][0]
        fingerprints.append(essence(found))
    assert fingerprints[0] == fingerprints[1] == fingerprints[2]
    assert set(fingerprints[0]) == {"sha256"}


def test_written_bytes_do_not_depend_on_the_order_of_names(tmp_path: Path) -> None:
    sm.save(tmp_path / "a.safetensors", STATE, model="m")
    sm.save(tmp_path / "b.safetensors", dict(reversed(STATE.items())), model="m")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert safetensors.torch.load_file(tmp_path / "a.safetensors").keys() == STATE.keys()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.int8]
)
def test_every_dtype_survives(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"a": torch.arange(5).to(dtype), "b": torch.ones(3), "empty": torch.ones(0, 2)}
    sm.save(tmp_path / "a.safetensors", state)
    assert same(open_checkpoint(tmp_path / "a.safetensors"), state)
    loaded = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert torch.equal(loaded["a"], state["a"])

"""Weights that can be read, but are wrapped, strange, or do not fit: rows A38 to A52."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from tests.hostile.headers import packed, put
from tests.hostile.rows import MIXED, READ, Row, Table, save, state
from tests.hostile.torchfiles import saved

TABLE = Table()
TURNED = ("mix {x} {good} -w uniform -o {out}",)


def add(id: str, make: Callable[[Path], Any], status: int, *words: str, **more: Any) -> None:
    TABLE.append(Row(id, make, status, words, **more))


def weights(seed: int = 2, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: torch.from_numpy(a) for name, a in state(seed).items()}


def out(home: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(home / "out.safetensors")


def is_mean(home: Path, dtype: torch.dtype = torch.float32, slack: float = 0.0) -> None:
    """Require that the soup is the mean of the good weights and `weights`."""
    found, ours, theirs = out(home), weights(0), weights()
    assert found.keys() == ours.keys()
    for name, tensor in found.items():
        exact = (ours[name].double() + theirs[name].double()) / 2
        assert tensor.dtype == dtype
        assert torch.allclose(tensor.double(), exact.to(dtype).double(), rtol=slack, atol=slack)


# ---- A38, A40: dtypes


def narrow(dtype: torch.dtype, home: Path) -> Path:
    narrowed = {n: t.to(dtype) for n, t in weights().items()}
    safetensors.torch.save_file(narrowed, home / "x.safetensors")
    return home / "x.safetensors"


for dtype in (torch.float16, torch.bfloat16, torch.float64):
    word = str(dtype).removeprefix("torch.")
    for lines, kept in ((MIXED, torch.float32), (TURNED, dtype)):
        first = "float32" if lines == MIXED else word
        check = partial(is_mean, dtype=kept, slack=0.02)
        make = partial(narrow, dtype)
        add(
            f"A38 {word} beside float32, {first} first",
            make,
            0,
            "conv.bias",
            lines=lines,
            check=check,
        )


@TABLE.row(
    "A40 a soup too large for float16",
    7,
    "conv.weight",
    "1e+06",
    "float16",
    lines=("mix {x} {good} -w uniform --dtype float16 -o {out}",),
)
def large(home: Path) -> Path:
    tensors = state()
    return save(
        home / "x.safetensors",
        conv__bias=tensors["conv.bias"],
        conv__weight=np.full((2, 3), 1e6, "f4"),
    )


@TABLE.row("A40 weights too large for the first one's float16", 7, "conv.weight", lines=TURNED)
def large_second(home: Path) -> Path:
    large(home).replace(home / "good.safetensors")
    return narrow(torch.float16, home)


# ---- A41, A42, A44, A45: wrappers

for prefix in ("module.", "model.", "_orig_mod.", "module.model.", "net.module."):
    add(
        f"A41 every name begins with {prefix}",
        lambda home, p=prefix: saved(home, weights(2, p)),
        0,
        prefix,
        check=is_mean,
    )
add(
    "A41 one name of two begins with module.",
    lambda home: saved(home, {**weights(), "module.conv.weight": torch.ones(2, 3)}),
    3,
    "module.conv.weight",
    "not in",
    lines=MIXED,
)
add(
    "A41 model. within the names stays",
    lambda home: saved(home, {"b.model.w": torch.tensor(float("nan"))}),
    0,
    "b.model.w",
    lines=READ,
)


def wrapped(*path: str, **beside: Any) -> Callable[[Path], Path]:
    value: Any = weights()
    for key in reversed(path):
        value = {key: value}
    return lambda home: saved(home, {**value, **beside})


for path in ("state_dict", "model", "net", "model_state_dict", "checkpoint.model"):
    add(f"A42 wrapped as {path}", wrapped(*path.split(".")), 0, f"'{path}'", check=is_mean)
add("A42 wrapped three deep", wrapped("a", "b", "c"), 3, "no state dict")
add(
    "A42 several wrapped",
    wrapped("model", model_ema=weights(3)),
    3,
    "'model', 'model_ema'",
    "--weights-key",
)
add(
    "A42 a key that is not there",
    wrapped("model"),
    3,
    "'ema'",
    "'model'",
    lines=("inspect {x} --weights-key ema",),
)
add(
    "A42 a key for a file that wraps nothing",
    lambda home: save(home / "x.safetensors"),
    3,
    "'ema'",
    "--weights-key",
    lines=("inspect {x} --weights-key ema",),
)
add(
    "A42 one of several",
    wrapped("model", model_ema=weights(3)),
    0,
    "'model'",
    lines=("inspect {x} --weights-key model",),
)

OPTIMISER = {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
add(
    "A44 beside an optimiser",
    wrapped("net", epoch=3, optimizer=OPTIMISER, args=["a"]),
    0,
    "'epoch', 'optimizer', 'args'",
    check=is_mean,
)
add(
    "A44 values among the tensors",
    lambda home: saved(home, {**weights(), "epoch": 3}),
    0,
    "'epoch'",
    check=is_mean,
)
for id, value, word in (
    ("a bare tensor", torch.ones(2), "a single tensor"),
    ("a list", [torch.ones(2)], "list"),
    ("a tuple", (torch.ones(2),), "tuple"),
    ("an integer", 3, "int"),
    ("a text", "weights", "str"),
    ("none", None, "None"),
    ("keys that are no text", {0: torch.ones(2), 1: torch.ones(2)}, "mapping"),
    ("a mapping of numbers", {"epoch": 3}, "mapping"),
    ("an optimiser alone", {"optimizer": OPTIMISER}, "mapping"),
):
    add(f"A44 {id}", lambda home, value=value: saved(home, value), 3, "no state dict", word)


@TABLE.row("A44 a mapping that holds itself", 3, "mapping")
def ouroboros(home: Path) -> Path:
    value: dict[str, Any] = {"epoch": 3}
    value["self"] = value
    return saved(home, value)


add("A45 an empty mapping", lambda home: saved(home, {}), 3, "mapping")
add("A45 an empty state dict", lambda home: saved(home, {"state_dict": {}}), 3, "mapping")
add("A45 a header without tensors", lambda home: put(home, packed({}, b"")), 3, "no tensors")
add(
    "A45 no tensor in common",
    lambda home: save(home / "x.safetensors", other=[1.0]),
    3,
    "no tensor name in common",
    "2",
    "1",
    lines=(*MIXED, *TURNED),
)

# ---- A46: one storage behind several names, and views of it


def put_both(home: Path, make: Callable[[int], dict[str, torch.Tensor]]) -> Path:
    saved(home, make(1), "y.pt")
    return saved(home, make(0))


WITH_Y = ("mix {x} {home}/y.pt -w uniform -o {out}",)


def tied(seed: int) -> dict[str, torch.Tensor]:
    table = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    return {"decoder.weight": table, "embed.weight": table, "other": torch.ones(2) * seed}


def still_tied(home: Path) -> None:
    found = out(home)
    assert torch.equal(found["decoder.weight"], found["embed.weight"])
    mean = (tied(0)["embed.weight"].double() + tied(1)["embed.weight"].double()) / 2
    assert torch.equal(found["embed.weight"], mean.float())


add("A46 one tensor by two names", partial(put_both, make=tied), 0, lines=WITH_Y, check=still_tied)
add(
    "A46 one tensor by two names is reported",
    partial(put_both, make=tied),
    0,
    "decoder.weight = embed.weight",
    lines=READ,
)


@TABLE.row("A46 tied here, not there", 3, "decoder.weight and embed.weight", "y.pt", lines=WITH_Y)
def untied(home: Path) -> Path:
    saved(home, {**tied(1), "embed.weight": torch.ones(5, 3)}, "y.pt")
    return saved(home, tied(0))


def views(seed: int) -> dict[str, torch.Tensor]:
    whole = torch.arange(60.0).reshape(3, 4, 5) + 100 * seed
    return {
        "turned": whole.permute(2, 0, 1),
        "part": whole[1:, ::2, 1:4],
        "channels.last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last) * 0 + seed,
        "scalar": whole[2, 3, 4],
        "empty": whole[:0],
    }


def views_mixed(home: Path) -> None:
    found, ours, theirs = out(home), views(0), views(1)
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[n], (ours[n] + theirs[n]) / 2) for n in ours)


add(
    "A46 views that are not contiguous",
    partial(put_both, make=views),
    0,
    lines=WITH_Y,
    check=views_mixed,
)

# ---- A48: batch norm


def normed(seed: int) -> dict[str, torch.Tensor]:
    return {
        "bn.num_batches_tracked": torch.tensor(7 + seed),
        "bn.running_mean": torch.tensor([1.0, 2.0 + 2 * seed]),
        "bn.running_var": torch.tensor([1.0, 1.0 + 8 * seed]),
        "bn.weight": torch.ones(2),
    }


def averaged(home: Path) -> None:
    found = out(home)
    assert found["bn.num_batches_tracked"].item() == 7
    assert found["bn.num_batches_tracked"].dtype == torch.int64
    assert found["bn.running_mean"].tolist() == [1.0, 3.0]
    assert found["bn.running_var"].tolist() == [1.0, 5.0]


add(
    "A48 counters that differ",
    partial(put_both, make=normed),
    0,
    "averaged, not re-estimated",
    lines=WITH_Y,
    check=averaged,
)
add(
    "A48 a variance below zero",
    partial(put_both, make=normed),
    7,
    "bn.running_var",
    "variance",
    lines=("mix {x} {home}/y.pt -w 2,-1 --affine -o {out}",),
)

# ---- A49, A50: what does not fit


def headed(home: Path, classes: int, width: int = 4) -> Path:
    sizes = {"head.bias": (classes,), "head.weight": (classes, width), "stem.weight": (width, 3)}
    return save(
        home / f"{classes}-{width}.safetensors", **{n: np.zeros(s) for n, s in sizes.items()}
    )


def two_heads(home: Path, **other: int) -> Path:
    headed(home, 10).replace(home / "good.safetensors")
    return headed(home, **{"classes": 10, **other})


add(
    "A49 another number of classes",
    partial(two_heads, classes=100),
    3,
    "head.bias",
    "head.weight",
    "100 and 10 classes",
    lines=MIXED,
)
add(
    "A49 another width",
    partial(two_heads, width=8),
    3,
    "head.weight",
    "stem.weight",
    "(8, 3)",
    "(4, 3)",
    lines=MIXED,
)
add(
    "A49 numbers of another kind",
    lambda home: save(home / "x.safetensors", **{**state(), "conv.bias": np.zeros(2, "i8")}),
    3,
    "conv.bias",
    "int64",
    "float32",
    lines=MIXED,
)


@TABLE.row(
    "A50 nine names missing, one unexpected",
    3,
    "n1: missing",
    "other",
    "more",
    "check",
    lines=MIXED,
)
def lacking(home: Path) -> Path:
    save(home / "good.safetensors", **{f"n{i}": [0.0] for i in range(10)})
    return save(home / "x.safetensors", n0=[0.0], other=[0.0])


# ---- A52: one file twice

TWICE = ("mix {good} {x} -w uniform -o {out}",)
add("A52 one file twice", lambda home: home / "good.safetensors", 0, "more than once", lines=TWICE)


def same(link: Callable[[Path, Path], Any], home: Path) -> Path:
    link(home / "good.safetensors", home / "x.safetensors")
    return home / "x.safetensors"


add("A52 a hard link", partial(same, os.link), 0, "more than once", lines=TWICE)
add("A52 a symbolic link", partial(same, os.symlink), 0, "more than once", lines=TWICE)
add("A52 a copy", partial(same, shutil.copy), 0, "same weights", "sha256", lines=TWICE)

# ---- NaN and Inf


def spoiled(home: Path, value: float, dtype: str = "f4") -> Path:
    tensors = {n: t.astype(dtype) for n, t in state(2).items()}
    tensors["conv.weight"][1, 2] = value
    return save(home / "x.safetensors", **tensors)


for value in (float("nan"), float("inf"), -float("inf")):
    for dtype in ("f4", "f2", "f8"):
        add(
            f"B7 {value} of {dtype}",
            partial(spoiled, value=value, dtype=dtype),
            7,
            "conv.weight",
            lines=(*MIXED, "mix {good} {x} -w 1,0 -o {out}", "mix {x} {good} -w 0,1 -o {out}"),
        )
add("B7 NaN is reported", partial(spoiled, value=float("nan")), 0, "conv.weight", lines=READ)

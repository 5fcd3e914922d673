"""State dicts are found in torch files as people save them: wrapped, in modules, beside others."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from soupmerge.errors import InputError, UnsafeError
from soupmerge.storage.reading import StableFile
from soupmerge.weights import pickles, torchfiles
from soupmerge.weights.files import open_checkpoint

BOTH = pytest.mark.parametrize("zipped", [True, False])
TENSOR = torch.tensor([1.0, 2.0])


def load(
    path: Path, value: Any, key: str | None = None, *, zipped: bool = True, foreign: bool = False
) -> torchfiles.Unwrapped:
    torch.save(value, path / "a.pt", _use_new_zipfile_serialization=zipped)
    return torchfiles.load(StableFile.seen(path / "a.pt"), key, foreign=foreign)


def nested(depth: int) -> nn.Module:
    net: nn.Module = nn.Linear(1, 1)
    for _ in range(depth):
        net = nn.Sequential(net)
    return net


@BOTH
def test_a_whole_module_is_its_parameters_and_buffers(tmp_path: Path, zipped: bool) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 1)))
    with pytest.raises(UnsafeError, match="refers to more than tensors and plain values"):
        load(tmp_path, net, zipped=zipped)
    unwrapped = load(tmp_path, net, zipped=zipped, foreign=True)
    state = net.state_dict()
    assert set(unwrapped.views) == set(state)
    for name, view in unwrapped.views.items():
        assert torch.equal(view.info.tensor(view.array()), state[name])
    assert unwrapped.notes[0].startswith("ignored references to torch.nn.modules.")


@pytest.mark.parametrize(("depth", "found"), [(1, True), (32, True), (33, False)])
def test_modules_are_searched_to_a_depth_of_32(tmp_path: Path, depth: int, found: bool) -> None:
    net = nested(depth)
    if found:
        assert set(load(tmp_path, net, foreign=True).views) == set(net.state_dict())
    else:
        with pytest.raises(InputError, match="holds no state dict"):
            load(tmp_path, net, foreign=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "holds no state dict .*, but a value of type int"),
        (None, "holds no state dict .*, but None"),
        ([TENSOR], "holds no state dict .*, but a value of type list"),
        (TENSOR, "holds no state dict .*, but a single tensor"),
        ({"a": 1}, "but a mapping without tensors; save the network's state_dict"),
        (OrderedDict(a=1), "but a mapping without tensors"),
        ({"a": {"b": {"c": {"w": TENSOR}}}}, "but a mapping without tensors"),
        ({"a": {"w": TENSOR}, "b": {"w": TENSOR}}, "several state dicts: 'a', 'b'; choose one"),
    ],
)
def test_what_holds_no_single_state_dict_says_what_it_holds(
    tmp_path: Path, value: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load(tmp_path, value)


@pytest.mark.parametrize(
    ("value", "key", "words"),
    [
        ({"a": {"w": TENSOR}, "b": {"w": TENSOR}}, "c", "has no weights 'c'; it has 'a', 'b'"),
        ({"a": 1}, "a", "has no weights 'a'; it has none"),
        ({"w": TENSOR}, "w", "has no weights 'w'; it has ''"),
    ],
)
def test_a_key_of_no_state_dict_is_refused_with_those_that_are(
    tmp_path: Path, value: Any, key: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load(tmp_path, value, key)


@BOTH
@pytest.mark.parametrize(
    ("value", "key", "names", "notes"),
    [
        ({"w": TENSOR, "epoch": 3}, None, ["w"], ("ignored 'epoch'",)),
        ({"w": TENSOR, "none": None, 5: 1}, None, ["w"], ()),
        ({"w": TENSOR, "epoch": 3}, "", ["w"], ("ignored 'epoch'",)),
        ({"net": {"w": TENSOR}, "lr": 0.1}, None, ["w"], ("unwrapped 'net'", "ignored 'lr'")),
        (
            {"a": {"x": {"w": TENSOR}, "y": {"v": TENSOR}}, "b": 1},
            *("a.y", ["v"], ("unwrapped 'a.y'", "ignored 'b'")),
        ),
        (OrderedDict(w=TENSOR), None, ["w"], ()),
        (OrderedDict(net=OrderedDict(w=TENSOR)), None, ["w"], ("unwrapped 'net'",)),
        ({"net": {"w": nn.Parameter(TENSOR)}, "optim": {"m": TENSOR}}, None, ["w"], None),
    ],
)
def test_a_state_dict_is_unwrapped_and_the_rest_is_noted(
    *, tmp_path: Path, zipped: bool, value: Any, key: str | None, names: list[str], notes: Any
) -> None:
    unwrapped = load(tmp_path, value, key, zipped=zipped)
    assert list(unwrapped.views) == names
    assert all(view.array().tolist() == [1, 2] for view in unwrapped.views.values())
    if notes is not None:
        assert unwrapped.notes == notes


def test_one_mapping_under_two_keys_is_one_state_dict(tmp_path: Path) -> None:
    state = {"w": TENSOR}
    assert load(tmp_path, {"a": state, "b": state}).notes[0] == "unwrapped 'a'"


def test_code_is_named_and_none_of_it_is_run(tmp_path: Path) -> None:
    value = {"net": {"w": TENSOR}, "args": argparse.Namespace(lr=0.1)}
    with pytest.raises(UnsafeError, match=r"argparse\.Namespace; .* with soupmerge convert"):
        load(tmp_path, value)
    assert load(tmp_path, value, foreign=True).notes == (
        "ignored references to argparse.Namespace",
        "unwrapped 'net'",
        "ignored 'args'",
    )


@BOTH
def test_names_of_one_tensor_are_ties(tmp_path: Path, zipped: bool) -> None:
    whole, empty = torch.arange(6.0), torch.zeros(0)
    state = {"a": whole, "b": whole, "c": whole[:3], "d": whole[3:], "e": empty, "f": empty}
    unwrapped = load(tmp_path, state, zipped=zipped)
    assert unwrapped.ties == (("a", "b"),)
    for name, view in unwrapped.views.items():
        assert torch.equal(view.info.tensor(view.array()), state[name])


TRANSPOSED = torch.arange(6.0).reshape(2, 3).T


@BOTH
@pytest.mark.parametrize(
    "tensor",
    [
        TRANSPOSED,
        torch.arange(24.0).reshape(2, 3, 4)[:, 1:, ::2],
        torch.arange(9.0)[4],
        torch.zeros(0, 3),
        torch.ones(3, 1).expand(3, 1),
        torch.arange(8, dtype=torch.int16)[2:],
        torch.arange(8).to(torch.bfloat16)[::3],
        torch.tensor([True, False]),
    ],
)
def test_a_view_holds_what_torch_loads(tmp_path: Path, zipped: bool, tensor: torch.Tensor) -> None:
    torch.save({"w": tensor}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    ours = open_checkpoint(tmp_path / "a.pt")["w"]
    theirs = torch.load(tmp_path / "a.pt")["w"]
    assert ours.dtype == theirs.dtype
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(2, dtype=torch.complex64), "w: dtype complex64 is not one of float64, "),
        (torch.ones(1).expand(3), r"w: has shape \(3,\), but only 4 stored bytes"),
        (torch.ones(2).to_sparse(), "w: is sparse; make it dense first"),
        (torch.zeros(1, dtype=torch.complex64).conj(), "w: dtype complex64"),
        (torch._neg_view(torch.ones(2)), "w: is a lazily negated or conjugated view"),
        (torch.empty(2, device="meta"), "w: is a meta tensor, which holds no numbers"),
    ],
)
def test_a_tensor_that_cannot_be_used_is_named(
    tmp_path: Path, tensor: torch.Tensor, words: str
) -> None:
    with pytest.raises((InputError, UnsafeError), match=words):
        load(tmp_path, {"w": tensor, "v": TENSOR})


def test_a_mark_may_be_dropped() -> None:
    assert pickles.read(b"K\x01(0.").value == 1

"""Descriptions of tensors in pickles are checked before any number is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soupmerge.errors import OutputError
from soupmerge.storage.reading import StableFile
from soupmerge.weights.archives import Archive, Storage
from soupmerge.weights.pickles import Call, Global, Persistent, Pickled
from soupmerge.weights.rebuilding import REBUILD, Faults, view_of
from soupmerge.weights.tensors import (
    ConstantView,
    DType,
    TensorInfo,
    View,
    dense,
    is_finite,
    stacked_pieces,
)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    (tmp_path / "a").write_bytes(np.arange(10, dtype=np.float32).tobytes())
    file = StableFile.seen(tmp_path / "a")
    return Archive(file, Pickled(None, (), 0), {"0": Storage(8, 32, "data/0")})


def storage(kind: str = "torch.FloatStorage", key: Any = "0", count: Any = 8, *view: Any) -> Any:
    return Persistent(("storage", Global(kind), key, "cpu", count, *view))


def tensor(
    of: Any = None, offset: Any = 0, shape: Any = (2, 4), stride: Any = (4, 1), *more: Any
) -> Call:
    of = storage() if of is None else of
    return Call(Global(f"{REBUILD}tensor_v2"), (of, offset, shape, stride, *more))


SIZE = Call(Global("torch.Size"), ([2, 4],))


@pytest.mark.parametrize(
    ("call", "start", "stride"),
    [
        (tensor(), 8, None),
        (tensor(shape=SIZE, stride=[4, 1]), 8, None),
        (tensor(offset=3, shape=(5,), stride=(1,)), 20, None),
        (tensor(offset=8, shape=(0,), stride=(1,)), 40, None),
        (tensor(shape=(4, 2), stride=(1, 4)), 8, (1, 4)),
        (tensor(shape=(1, 8), stride=(99, 1)), 8, None),
        (tensor(storage("torch.FloatStorage", "0", 8, ("1", 2, 6)), 1, (5,), (1,)), 20, None),
        (tensor(storage(key=0)), 8, None),
        (Call(Global(f"{REBUILD}parameter"), (tensor(), True, {})), 8, None),
        (Call(Global("torch._tensor._rebuild_from_type_v2"), (
            Global(f"{REBUILD}tensor_v2"), Global("torch.Tensor"), tensor().args, {},
        )), 8, None),
        (Call(Global(f"{REBUILD}tensor_v3"), (
            storage("torch.UntypedStorage", "0", 32), 0, (8,), (1,), False, {},
            Global("torch.float32"),
        )), 8, None),
    ],
)  # fmt: skip
def test_a_tensor_is_located(archive: Archive, call: Call, start: int, stride: Any) -> None:
    faults = Faults()
    located = view_of(archive, "w", call, faults)
    assert located is not None, faults
    view, key = located
    assert (view.start, view.stride, key) == (start, stride, "0")
    assert str(view.info.dtype) == "float32"
    assert faults == Faults()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (tensor(storage("torch.OddStorage")), "w: is in an unknown storage torch.OddStorage"),
        (tensor(storage(key="1")), "w: storage '1' is missing"),
        (tensor(storage(key=None)), "w: storage None has no name"),
        (tensor(storage(count=9)), "w: record 'data/0' should have 36 bytes, but has 32"),
        (tensor(storage(count="8")), "w: begins at '8', which is not a whole number"),
        (tensor(offset=1), "w: reaches from 1 to 8, beyond its storage of 8 numbers"),
        (tensor(offset=-1), "w: reaches from -1 to 6, beyond its storage"),
        (tensor(offset=1.0), "w: begins at 1.0, which is not a whole number"),
        (tensor(shape=(2, True)), r"w: has sizes or strides \(2, True\)"),
        (tensor(shape=(2, -1)), r"w: has sizes or strides \(2, -1\)"),
        (tensor(shape=(0, 2**63)), "w: has sizes or strides"),
        (tensor(shape=(1,) * 65, stride=(1,) * 65), "w: has 65 dimensions, at most 64 are allow"),
        (tensor(None, 0, (2, 4), (4, 1), False, {}, {"neg": True}), "w: is a lazily negated"),
        (tensor(stride=(4,)), "w: "),
        (tensor(3), "w: has a malformed description"),
        (Call(Global(f"{REBUILD}tensor_v2"), ()), "w: "),
        (Call(Global(f"{REBUILD}qtensor"), ()), "w: is quantised; dequantise it first"),
        (tensor(storage("torch.ComplexFloatStorage", "0", 1)), "w: dtype complex64 is not one of"),
    ],
)
def test_a_description_that_is_wrong_is_named(archive: Archive, call: Call, words: str) -> None:
    faults = Faults()
    assert view_of(archive, "w", call, faults) is None
    assert faults.harmful == []
    (message,) = faults.unusable
    with pytest.raises(ValueError, match=words):
        raise ValueError(message)


@pytest.mark.parametrize(
    "call",
    [
        tensor(shape=(9,), stride=(1,)),
        tensor(shape=(2, 2), stride=(0, 1)),
        tensor(shape=(1 << 40,), stride=(0,)),
    ],
)
def test_a_tensor_larger_than_its_storage_is_harmful(archive: Archive, call: Call) -> None:
    faults = Faults()
    assert view_of(archive, "w", call, faults) is None
    assert faults.unusable == []
    assert "but only 32 stored bytes" in faults.harmful[0]


def test_a_stride_of_0_repeats_only_what_is_longer_than_1(archive: Archive) -> None:
    faults = Faults()
    assert view_of(archive, "w", tensor(shape=(1, 2), stride=(0, 1)), faults)
    assert faults == Faults()


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [
        ((), (), True),
        ((2, 3), (3, 1), True),
        ((2, 3), (1, 2), False),
        ((1, 3), (7, 1), True),
        ((3, 1), (1, 7), True),
        ((2, 0), (5, 5), True),
        ((2, 2), (3, 1), False),
    ],
)
def test_contiguous_strides_are_those_of_torch(
    shape: tuple[int, ...], stride: tuple[int, ...], expected: bool
) -> None:
    assert dense(shape, stride) is expected
    assert (
        torch.empty(0).as_strided(shape, stride).is_contiguous() is expected
        if 0 in shape
        else (torch.empty(64).as_strided(shape, stride).is_contiguous() is expected)
    )


def test_a_constant_is_read_in_pieces(archive: Archive) -> None:
    info = TensorInfo(DType("float32"), (3,))
    view = ConstantView(info, archive.file, 0, numbers=(0.5, 0.25, 0.125))
    assert view.array().tolist() == [0.5, 0.25, 0.125]
    assert view.reader()(1, np.empty(2, np.float32)).tolist() == [0.25, 0.125]


def test_pieces_are_stacked_in_order_and_in_float64(archive: Archive) -> None:
    info = TensorInfo(DType("float32"), (2, 3))
    views = [View(info, archive.file, 4 * k) for k in range(3)]
    (stack,) = stacked_pieces(views)
    assert stack.dtype == np.float64
    assert stack.tolist() == [[float(k + i) for i in range(6)] for k in range(3)]


def test_a_tensor_beyond_the_memory_is_an_output_error(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise MemoryError

    view = View(TensorInfo(DType("float32"), (2,)), archive.file, 0)
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(OutputError, match="there is not enough memory for a tensor of 8 bytes"):
        view.array()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_numbers_are_finite_unless_one_is_not(kind: str) -> None:
    numbers = np.ones(5, kind)
    assert is_finite(numbers)
    if kind.startswith("float"):
        numbers[:2] = np.finfo(kind).max
        assert is_finite(numbers)
        for value in (np.nan, np.inf, -np.inf):
            numbers[3] = value
            assert not is_finite(numbers)

"""Locating the tensors that torch would rebuild from a pickle, checked against their storages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soupmerge.errors import short_repr
from soupmerge.weights.archives import Archive, Storage, key_of
from soupmerge.weights.pickles import Call, Global
from soupmerge.weights.tensors import DTYPES, MOST_DIMENSIONS, DType, TensorInfo, View, dense

STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "Untyped": "uint8",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}
"""X of ``torch.XStorage`` → the dtype of its numbers."""

DTYPE = re.compile(
    r"torch\.((b?float|complex|q?u?int|bits)\d+\w*|bool|float|double|half|long)", re.ASCII
)
"""Names of dtypes."""

REBUILD = "torch._utils._rebuild_"
UNSUPPORTED = {
    f"{REBUILD}sparse_tensor": "is sparse; make it dense first",
    f"{REBUILD}sparse_csr_tensor": "is sparse; make it dense first",
    f"{REBUILD}qtensor": "is quantised; dequantise it first",
    f"{REBUILD}meta_tensor_no_storage": "is a meta tensor, which holds no numbers",
    f"{REBUILD}nested_tensor": "is a nested tensor, which has no single shape",
    f"{REBUILD}device_tensor_from_numpy": "is on a special device; save it on cpu",
    f"{REBUILD}wrapper_subclass": "is of a tensor subclass; save plain tensors",
}
"""Special kinds of tensors → what an error says of them."""

PLAIN = {
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.dict",
    "builtins.list",
    "builtins.set",
    "builtins.frozenset",
    "builtins.complex",
    "__builtin__.set",
    "_codecs.encode",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch._tensor._rebuild_from_type_v2",
    "torch.serialization._get_layout",
    "torch.per_tensor_affine",
    "torch.per_tensor_symmetric",
    "torch.per_channel_affine",
    "torch.per_channel_symmetric",
    "torch.per_channel_affine_float_qparams",
    f"{REBUILD}tensor",
    f"{REBUILD}tensor_v2",
    f"{REBUILD}tensor_v3",
    f"{REBUILD}parameter",
    f"{REBUILD}parameter_with_state",
    *UNSUPPORTED,
}
"""What a file of weights may refer to besides storages and dtypes; anything else is code."""


def is_plain(name: str) -> bool:
    """Return whether the global *name* stands for plain values, storages or dtypes."""
    storage = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", name)
    is_storage = storage is not None and storage[1] in STORAGES
    return is_storage or name in PLAIN or DTYPE.fullmatch(name) is not None


def name_of(call: Any) -> str:
    """Return the name of what *call* would call; empty if it has none."""
    return call.of.name if isinstance(call, Call) and isinstance(call.of, Global) else ""


def is_tensor(value: Any) -> bool:
    """Return whether *value* represents a tensor."""
    name = name_of(value)
    return name.startswith(REBUILD) or name == "torch._tensor._rebuild_from_type_v2"


@dataclass
class Faults:
    """Messages about tensors that cannot be used, and about those that could do harm."""

    unusable: list[str] = field(default_factory=list)
    harmful: list[str] = field(default_factory=list)


def view_of(archive: Archive, name: str, call: Call, faults: Faults) -> tuple[View, str] | None:
    """Return the tensor that *call* would make, and its storage's key; else add to *faults*."""
    try:
        call = _innermost(call)
        if name_of(call) in UNSUPPORTED:
            raise ValueError(UNSUPPORTED[name_of(call)])
        persistent, offset, shape, stride, *more = call.args
        key, stored, base, count = _storage(persistent.id)
        typed = name_of(call) == f"{REBUILD}tensor_v3"
        dtype = DType(more[2].name.removeprefix("torch.")) if typed else stored
        if dtype not in DTYPES.values():
            raise ValueError(f"dtype {dtype} is not one of {', '.join(map(str, DTYPES.values()))}")
        if any(isinstance(m, dict) and m for m in more[2:]):
            raise ValueError("is a lazily negated or conjugated view; save a copy of it")
        shape, stride = _sizes(shape), _sizes(stride)
        info = TensorInfo(dtype, shape)
        storage = _whole(archive.storages, key, count * stored.itemsize)
        start = _start(storage, info, stride, _offset(offset) + _offset(base))
        contiguous = dense(shape, stride)
    except _HarmfulError as error:
        faults.harmful.append(f"{name}: {error}")
    except ValueError as error:
        faults.unusable.append(f"{name}: {error}")
    except (AttributeError, IndexError, KeyError, TypeError):
        faults.unusable.append(f"{name}: has a malformed description")
    else:
        return View(info, archive.file, start, None if contiguous else stride), key
    return None


class _HarmfulError(Exception):
    """A tensor would take more memory than the file stores for it."""


def _innermost(call: Call) -> Call:
    """Return the tensor inside parameters and tensors with attributes."""
    for _ in range(4):
        if name_of(call).startswith(f"{REBUILD}parameter"):
            call = call.args[0]
        elif name_of(call) == "torch._tensor._rebuild_from_type_v2":
            call = Call(call.args[0], call.args[2])
    return call


def _whole(storages: Mapping[str, Storage], key: str, size: int) -> Storage:
    """Return the storage *key*, which must have the *size* that the pickle states."""
    storage = storages.get(key)
    if storage is None:
        raise ValueError(f"storage {key!r} is missing")
    if storage.size < size:
        what = f"should have {short_repr(size)} bytes, but has {storage.size:,}"
        raise ValueError(f"record {storage.record!r} {what}")
    return storage


def _start(storage: Storage, info: TensorInfo, stride: tuple[int, ...], offset: int) -> int:
    """Return the tensor's first byte in the file, having checked that it ends within *storage*."""
    repeated = any(step == 0 and size > 1 for size, step in zip(info.shape, stride, strict=True))
    if repeated or info.bytes > storage.size:
        raise _HarmfulError(f"has shape {info.shape}, but only {storage.size:,} stored bytes")
    last = offset + sum((n - 1) * step for n, step in zip(info.shape, stride, strict=True))
    if offset < 0 or (info.numel and (last + 1) * info.dtype.itemsize > storage.size):
        raise ValueError(
            f"reaches from {short_repr(offset)} to {short_repr(last)}, beyond its storage of "
            f"{storage.size // info.dtype.itemsize} numbers (record {storage.record!r})"
        )
    return storage.start + offset * info.dtype.itemsize


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Call):  # torch.Size
        value = value.args[0]
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in value):
        raise ValueError(f"has sizes or strides {short_repr(value)}")
    if len(value) > MOST_DIMENSIONS:
        raise ValueError(f"has {len(value):,} dimensions, at most {MOST_DIMENSIONS} are allowed")
    return tuple(value)


def _offset(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"begins at {short_repr(value)}, which is not a whole number")
    return value


def _storage(id: Any) -> tuple[str, DType, int, int]:
    """Return the key and dtype of the storage *id*, the start of a legacy view, and its length."""
    word, kind, key, _, count, *view = id
    short = kind.name.rpartition(".")[2].removesuffix("Storage")
    if word != "storage" or short not in STORAGES:
        raise ValueError(f"is in an unknown storage {kind.name}")
    base = view[0][1] if view and view[0] else 0
    return key_of(key), DType(STORAGES[short]), base, _offset(count)


def key_and_size(id: Any) -> tuple[str, int]:
    """Return the key of the storage *id*, and the bytes per number."""
    try:
        key, dtype, _, _ = _storage(id)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "", 0
    return key, dtype.itemsize if dtype in DTYPES.values() else 1

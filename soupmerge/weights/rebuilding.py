"""What torch would rebuild from a pickle → where each tensor lies, held against its storage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soupmerge.errors import brief
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
"""``torch.XStorage`` → the dtype of its numbers."""

DTYPE = re.compile(
    r"torch\.((b?float|complex|q?u?int|bits)\d+\w*|bool|float|double|half|long)", re.ASCII
)
"""How dtypes are named."""

REBUILD = "torch._utils._rebuild_"
STRANGE = {
    f"{REBUILD}sparse_tensor": "is sparse; make it dense first",
    f"{REBUILD}sparse_csr_tensor": "is sparse; make it dense first",
    f"{REBUILD}qtensor": "is quantised; dequantise it first",
    f"{REBUILD}meta_tensor_no_storage": "is a meta tensor, which holds no numbers",
    f"{REBUILD}nested_tensor": "is a nested tensor, which has no shape",
    f"{REBUILD}device_tensor_from_numpy": "lies on a device that torch keeps apart; save it on cpu",
    f"{REBUILD}wrapper_subclass": "is of a class of its own; save plain tensors",
}
"""What may stand in the place of a plain tensor, and what is said of it."""

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
    *STRANGE,
}
"""What a file of weights may name besides storages and dtypes; anything else is somebody's code."""


def is_plain(name: str) -> bool:
    """Return whether the global *name* stands for plain values, storages or dtypes."""
    storage = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", name)
    known = storage is not None and storage[1] in STORAGES
    return known or name in PLAIN or DTYPE.fullmatch(name) is not None


def name_of(call: Any) -> str:
    """Return what *call* would call, or nothing."""
    return call.of.name if isinstance(call, Call) and isinstance(call.of, Global) else ""


def is_tensor(value: Any) -> bool:
    """Return whether *value* stands for a tensor."""
    name = name_of(value)
    return name.startswith(REBUILD) or name == "torch._tensor._rebuild_from_type_v2"


@dataclass
class Faults:
    """What is wrong with tensors: what cannot be used, and what could do harm."""

    unusable: list[str] = field(default_factory=list)
    harmful: list[str] = field(default_factory=list)


def view_of(archive: Archive, name: str, call: Call, faults: Faults) -> tuple[View, str] | None:
    """Return where the tensor *call* would make lies, and its storage; or note what is wrong."""
    try:
        call = _innermost(call)
        if name_of(call) in STRANGE:
            raise ValueError(STRANGE[name_of(call)])
        persistent, offset, shape, stride, *more = call.args
        key, held, base, count = _storage(persistent.id)
        typed = name_of(call) == f"{REBUILD}tensor_v3"
        dtype = DType(more[2].name.removeprefix("torch.")) if typed else held
        if dtype not in DTYPES.values():
            raise ValueError(f"dtype {dtype} is not one of {', '.join(map(str, DTYPES.values()))}")
        if any(isinstance(m, dict) and m for m in more[2:]):
            raise ValueError("is a lazily negated or conjugated view; save a copy of it")
        shape, stride = _sizes(shape), _sizes(stride)
        info = TensorInfo(dtype, shape)
        storage = _whole(archive.storages, key, count * held.itemsize)
        start = _start(storage, info, stride, _offset(offset) + _offset(base))
        contiguous = dense(shape, stride)
    except _HarmfulError as error:
        faults.harmful.append(f"{name}: {error}")
    except ValueError as error:
        faults.unusable.append(f"{name}: {error}")
    except (AttributeError, IndexError, KeyError, TypeError):
        faults.unusable.append(f"{name}: is not described as a tensor is")
    else:
        return View(info, archive.file, start, None if contiguous else stride), key
    return None


class _HarmfulError(Exception):
    """A tensor would take more memory than the file has bytes for it."""


def _innermost(call: Call) -> Call:
    """Return the tensor inside of parameters and of tensors with attributes."""
    for _ in range(4):
        if name_of(call).startswith(f"{REBUILD}parameter"):
            call = call.args[0]
        elif name_of(call) == "torch._tensor._rebuild_from_type_v2":
            call = Call(call.args[0], call.args[2])
    return call


def _whole(storages: Mapping[str, Storage], key: str, size: int) -> Storage:
    """Return the storage *key*, if it is as long as the pickle says."""
    storage = storages.get(key)
    if storage is None:
        raise ValueError(f"storage {key!r} is missing")
    if storage.size < size:
        what = f"should hold {brief(size)} bytes, it has {storage.size:,}"
        raise ValueError(f"record {storage.record!r} {what}")
    return storage


def _start(storage: Storage, info: TensorInfo, stride: tuple[int, ...], offset: int) -> int:
    """Return the tensor's first byte in the file, once it is known to end within its storage."""
    repeated = any(step == 0 and size > 1 for size, step in zip(info.shape, stride, strict=True))
    if repeated or info.bytes > storage.size:
        raise _HarmfulError(f"shape {info.shape} on {storage.size:,} stored bytes")
    last = offset + sum((n - 1) * step for n, step in zip(info.shape, stride, strict=True))
    if offset < 0 or (info.numel and (last + 1) * info.dtype.itemsize > storage.size):
        raise ValueError(
            f"reaches from {brief(offset)} to {brief(last)}, beyond its storage of "
            f"{storage.size // info.dtype.itemsize} numbers (record {storage.record!r})"
        )
    return storage.start + offset * info.dtype.itemsize


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Call):  # torch.Size
        value = value.args[0]
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in value):
        raise ValueError(f"has sizes or strides {brief(value)}")
    if len(value) > MOST_DIMENSIONS:
        raise ValueError(f"has {len(value):,} dimensions, at most {MOST_DIMENSIONS} are meant")
    return tuple(value)


def _offset(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"begins at {brief(value)}, which is no whole number")
    return value


def _storage(id: Any) -> tuple[str, DType, int, int]:
    """Return key and dtype of the storage *id*, where a legacy view in it begins, its length."""
    word, kind, key, _, count, *view = id
    short = kind.name.rpartition(".")[2].removesuffix("Storage")
    if word != "storage" or short not in STORAGES:
        raise ValueError(f"lies in {kind.name}, which is not known")
    base = view[0][1] if view and view[0] else 0
    return key_of(key), DType(STORAGES[short]), base, _offset(count)


def key_and_size(id: Any) -> tuple[str, int]:
    """Return the key of the storage *id*, and the size of one of its numbers."""
    try:
        key, dtype, _, _ = _storage(id)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "", 0
    return key, dtype.itemsize if dtype in DTYPES.values() else 1

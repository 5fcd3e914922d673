"""Writing and validating the headers of safetensors files.

Format: https://github.com/huggingface/safetensors#format. The library itself is not used for
reading: its errors name neither the file nor the wrong bytes, it accepts duplicate names, and it
takes 20 seconds for a header of a million empty tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from soupmerge.errors import InputError, UsageError, short_repr
from soupmerge.numbers import count
from soupmerge.storage.reading import StableFile, parse_json
from soupmerge.weights.tensors import DTYPES, MOST_DIMENSIONS, TensorInfo, View

MOST_TENSORS = 100_000
"""Largest number of tensors in one file; the environment variable `LIMIT` overrides it."""

LIMIT = "SOUPMERGE_MAX_TENSORS"

MOST_BYTES = 100_000_000
"""Largest size of a header, as in the safetensors library."""

AGAIN = "download or save it again"


def read(file: StableFile) -> tuple[dict[str, View], dict[str, str]]:
    """Return the tensors of the safetensors *file*, and its metadata.

    Raises:
        InputError: it is damaged; every faulty tensor is listed.
    """
    raw = _header(file)
    try:
        # Decoded here, because json would take bytes for UTF-16 if every other one is 0.
        header = parse_json(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _damaged(file, f"its header is not UTF-8 at byte {8 + error.start}") from error
    except RecursionError as error:
        raise _damaged(file, "its header is nested too deeply") from error
    except ValueError as error:
        raise _damaged(file, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(file, f"its header is a {type(header).__name__}, not an object")
    metadata = header.pop("__metadata__", {})
    if not _is_text_map(metadata):
        raise _damaged(file, "its metadata are not a mapping of strings to strings")
    begin = 8 + len(raw)
    places: dict[str, tuple[int, int]] = {}
    views, problems = {}, []
    _require_few(file, len(header))
    for name, entry in header.items():
        fault = _fault(entry)
        if fault:
            problems.append(f"{name!r}: {fault}")
            continue
        start, end = entry["data_offsets"]
        places[name] = (start, end)
        info = TensorInfo(DTYPES[entry["dtype"]], tuple(entry["shape"]))
        views[name] = View(info, file, begin + start)
    if not problems:
        problems = list(_gaps(places, file.size - begin))
    if problems:
        raise InputError(
            "is a damaged safetensors file", problems=problems, where=file.path, fix=AGAIN
        )
    return views, metadata


def encode(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a file with *infos*, in that order; equal values give equal bytes."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, info in infos.items():
        start, end = end, end + info.bytes
        entry = {
            "dtype": names[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [start, end],
        }
        header[name] = entry
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _header(file: StableFile) -> bytes:
    length = int.from_bytes(file.read(0, 8), "little")
    expected = f"its header should be {length:,} bytes long"
    if length > file.size - 8:
        raise _damaged(file, f"{expected}, but the file has {file.size:,}")
    if length > MOST_BYTES:
        raise _damaged(file, f"{expected}, but at most {MOST_BYTES:,} are allowed")
    raw = file.read(8, length)
    # Counted before parsing, which takes a hundred bytes of memory for each of these.
    tokens = sum(raw.count(sign) for sign in (b",", b"[", b"{"))
    _require_few(file, max(tokens // 16, raw.count(b'"data_offsets"')))
    return raw


def _require_few(file: StableFile, tensors: int) -> None:
    text = os.environ.get(LIMIT) or str(MOST_TENSORS)
    most = count(text)
    if most is None:
        raise UsageError(f"{text[:40]!r} is not a number", where=LIMIT, fix="give a whole number")
    if tensors > most:
        what = f"its header names more than {most:,} tensors"
        raise InputError(what, where=file.path, fix=f"set {LIMIT} if that is right")


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _fault(entry: Any) -> str | None:
    """Return what is wrong with one tensor's *entry* by itself, or None."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "should have dtype, shape and data_offsets, and nothing else"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return f"dtype {short_repr(dtype)} is not one of {', '.join(DTYPES)}"
    if not _counts(shape):
        return f"shape {short_repr(shape)} is not a list of sizes"
    if len(shape) > MOST_DIMENSIONS:
        return f"its shape has {len(shape):,} dimensions, at most {MOST_DIMENSIONS} are allowed"
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"data_offsets {short_repr(offsets)} are not a start and an end"
    expected = TensorInfo(DTYPES[dtype], tuple(shape)).bytes
    if offsets[1] - offsets[0] != expected:
        return f"has {offsets[1] - offsets[0]:,} bytes, its shape and dtype need {expected:,}"
    return None


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _gaps(places: Mapping[str, tuple[int, int]], size: int) -> Iterator[str]:
    """Yield a message for each overlap of tensors and for each gap between them."""
    at, before = 0, ""
    for name, (start, end) in sorted(places.items(), key=lambda item: (item[1], item[0])):
        if start < at:
            yield f"{name!r} overlaps {before!r}"
        elif start > at:
            yield f"byte {at:,} of the data belongs to no tensor"
        if end > at:
            at, before = end, name
    if at > size:
        yield f"{before!r} ends at byte {at:,} of the data, but the file ends at {size:,}"
    elif at < size:
        yield f"byte {at:,} of the data belongs to no tensor: {size - at:,} bytes too many"


def _damaged(file: StableFile, what: str) -> InputError:
    return InputError(f"is a damaged safetensors file: {what}", where=file.path, fix=AGAIN)

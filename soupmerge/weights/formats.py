"""The safetensors format, and how to write it: canonical bytes, tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from soupmerge.storage import commit

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes soupmerge mixes or copies, by their safetensors name."""


class TensorInfo(NamedTuple):
    """What is known of a tensor without reading it."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size of the data."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def save(
    path: Path | str,
    infos: Mapping[str, TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    *,
    notes: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write *tensors*, as they come, to the safetensors file *path*: whole or not at all.

    Args:
        infos: dtype and shape of every tensor, in the order in which *tensors* come.
        notes: what to note about the file, as JSON under the metadata key ``soupmerge``.

    Equal arguments give equal bytes: one canonical header, tensors in the order of *infos*.
    """
    with commit.committed(path, force=force) as file:
        file.write(_header(infos, {"format": "pt", "soupmerge": json.dumps(notes)}))
        for name, tensor in tensors:
            if TensorInfo(tensor.dtype, tuple(tensor.shape)) != infos[name]:
                raise AssertionError(
                    f"{name}: {tensor.dtype} {tuple(tensor.shape)} was not announced"
                )
            _write_tensor(file, tensor)


def _write_tensor(file: BinaryIO, tensor: Tensor) -> None:
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    file.write(flat.numpy().data)


def _header(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    # https://github.com/huggingface/safetensors#format; written here because the library can only
    # write what is all in memory, and orders several metadata keys differently in each process.
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


def layout(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return *infos* in file order: widest dtype first, so that all data stay aligned."""
    return dict(sorted(infos.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))

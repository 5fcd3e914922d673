"""Torch pickles → one state dict. ``weights_only=True``, always: no code from a file ever runs."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import InputError, UnsafeError
from soupmerge.weights.kinds import ZIP, kind_of

SKIPPED = ("optim", "sched", "scaler")
"""Entries beside the weights that hold tensors, but no network."""


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, and what was done to get at it."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]


def load(file: Path, weights_key: str | None = None) -> Unwrapped:
    """Return the state dict in the torch file *file*.

    Raises:
        InputError: damaged, without a state dict, or with several and no *weights_key*.
        UnsafeError: the file asks for more than tensors and plain values.
    """
    found = dict(_candidates(_read(file)))
    if weights_key is not None:
        if weights_key not in found:
            raise InputError(f"has no weights {weights_key!r}, but {_listed(found)}", where=file)
        return _pick(found, weights_key)
    if not found:
        raise InputError("holds no state dict (names to tensors)", where=file)
    if len(found) > 1:
        raise InputError(
            f"holds several state dicts: {_listed(found)}",
            where=file,
            fix="choose one by --weights-key",
        )
    return _pick(found, next(iter(found)))


def _read(file: Path) -> Any:
    try:
        # Only the zip format can be mapped; the legacy one is read whole.
        mapped = kind_of(file) == ZIP
        if mapped:
            _refuse_torchscript(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch explains how long its own checks may take
            if file.suffix == ".safetensors":  # torch goes by the name, which lies
                with open(file, "rb") as handle:
                    return torch.load(handle, map_location="cpu", weights_only=True)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except UnsafeError:
        raise
    except pickle.UnpicklingError as error:
        raise UnsafeError(
            f"holds more than tensors and plain values ({_reason(error)})",
            where=file,
            fix="save its state_dict() where it is trusted",
        ) from error
    except Exception as error:  # a parser fed with damaged bytes may raise anything
        raise InputError(
            f"is a damaged torch file ({_reason(error)})",
            where=file,
            fix="download or save it again",
        ) from error


def _refuse_torchscript(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            fix = "save its state_dict() where it is trusted"
            raise UnsafeError("is a TorchScript program, which is code", where=file, fix=fix)


def _reason(error: Exception) -> str:
    """Return what torch says, without its advice to switch the protection off."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if "weights_only" not in line and "Re-running" not in line]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    text = (telling or lines or [type(error).__name__])[0]
    return (
        text.split(". Please")[0]
        .split(" was not an allowed")[0]
        .removeprefix("WeightsUnpickler error: ")
    )


def _candidates(
    value: Any, path: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each mapping of names to tensors, at most two wrappers deep, with its path."""
    if not isinstance(value, Mapping):
        return
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield path, tensors
    elif depth < 2:
        for key, inner in value.items():
            if isinstance(key, str) and not key.lower().startswith(SKIPPED):
                yield from _candidates(inner, f"{path}.{key}" if path else key, depth + 1)


def _pick(found: Mapping[str, dict[str, Tensor]], key: str) -> Unwrapped:
    return Unwrapped(found[key], (f"unwrapped {key!r}",) if key else ())


def _listed(found: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in found)

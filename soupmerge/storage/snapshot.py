"""Saved training states, from which a killed run continues bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from soupmerge.errors import InputError
from soupmerge.storage import commit
from soupmerge.storage.reading import StableFile, parse_json


class Snapshot:
    """Tensors and a position in the file *path*, replaced atomically every *seconds* or so."""

    def __init__(self, path: Path, *, seconds: float = 60.0) -> None:
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether *seconds* have passed since the last save."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Save *tensors* and *position*, in place of what was saved before."""
        host = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        data = safetensors.torch.save(host, {"position": json.dumps(position)})
        with commit.committed(self.path, force=True) as file:
            file.write(data)
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the saved tensors and position, or None if there are none.

        Raises:
            InputError: the file is damaged.
        """
        if not os.path.lexists(self.path):
            return None
        file = StableFile.seen(self.path)
        try:
            # The safetensors library accepts a duplicate name, and ignores one of the two tensors.
            parse_json(file.read(8, int.from_bytes(file.read(0, 8), "little")).decode())
            with safetensors.safe_open(self.path, framework="pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                return tensors, parse_json(opened.metadata()["position"])
        except (
            *(safetensors.SafetensorError, KeyError, TypeError, ValueError),
            RecursionError,
        ) as error:
            raise InputError(
                f"is damaged: {error}", where=self.path, fix="start over with --force"
            ) from error

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Turn an error from restoring an unsuitable state into one that names the file."""
        try:
            yield
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            what = f"is not the state of this run: {str(error).splitlines()[0]}"
            raise InputError(what, where=self.path, fix="start over with --force") from error

    def clear(self) -> None:
        """Remove the saved state."""
        self.path.unlink(missing_ok=True)

"""The state of a training run, kept so that a killed run goes on bit for bit."""

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
    """Tensors and a position at *path*, replaced as a whole; saved at most every *seconds*."""

    def __init__(self, path: Path, *, seconds: float = 60.0) -> None:
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether so much time has passed that a kill now would hurt."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Replace what is kept by *tensors* and *position*."""
        host = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        data = safetensors.torch.save(host, {"position": json.dumps(position)})
        with commit.committed(self.path, force=True) as file:
            file.write(data)
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what is kept, or None if nothing is.

        Raises:
            InputError: the file is damaged.
        """
        if not os.path.lexists(self.path):
            return None
        held = StableFile.seen(self.path)
        try:
            # The library takes a name twice, and believes one of them.
            parse_json(held.read(8, int.from_bytes(held.read(0, 8), "little")).decode())
            with safetensors.safe_open(self.path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, parse_json(file.metadata()["position"])
        except (
            *(safetensors.SafetensorError, KeyError, TypeError, ValueError),
            RecursionError,
        ) as error:
            raise InputError(
                f"is damaged: {error}", where=self.path, fix="start over with --force"
            ) from error

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Turn what does not fit into an error that names the file."""
        try:
            yield
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            what = f"is not the state of this run: {str(error).splitlines()[0]}"
            raise InputError(what, where=self.path, fix="start over with --force") from error

    def clear(self) -> None:
        """Forget what is kept."""
        self.path.unlink(missing_ok=True)

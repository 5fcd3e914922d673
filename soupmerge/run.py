"""Where the results of long work go, and what it is computed on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from soupmerge.storage import commit, run_folder
from soupmerge.storage.names import IMAGES
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.tables import images_table
from soupmerge.types import Examples, Progress, quiet


@dataclass(frozen=True)
class Run:
    """Where the results of long work go, and what it is computed on.

    Every search, `learn`, `sweep`, `landscape`, `barrier` and `adapt` take one.

    Args:
        out: run folder, which journals the work, so that it can be resumed, and receives the
            results; None keeps nothing on disk.
        force: discard the run that *out* holds, if any, and start over.
        device: device of torch: ``cpu``, ``cuda`` or ``cuda:1``.
        progress: callback for progress; see `types.Progress`.

    Example:
        >>> Run("grid", device="cuda").device
        'cuda'
    """

    out: Path | str | None = None
    force: bool = False
    device: torch.device | str = "cpu"
    progress: Progress = quiet

    @property
    def device_type(self) -> str:
        """The kind of device, ``cpu`` or ``cuda``, for manifests."""
        return torch.device(self.device).type

    @contextlib.contextmanager
    def opened(
        self,
        manifest: Mapping[str, Any],
        *,
        inputs: Iterable[Path] = (),
        room: int = 0,
        images: Examples | None = None,
    ) -> Iterator[RunFolder | None]:
        """Open the run folder for the work that *manifest* describes; yield None without one.

        Args:
            inputs: files that the run must not replace.
            room: bytes of the large files that the work writes.
            images: listed in ``images.csv``.

        Raises:
            UsageError, OutputError: as `run_folder.opened`.
        """
        if self.out is None:
            yield None
            return
        with run_folder.opened(
            self.out, dict(manifest), inputs=inputs, force=self.force, room=room
        ) as folder:
            if images is not None:
                commit.write_text(folder.file(IMAGES), images_table(images), force=True)
            yield folder

"""Files that are received in parts, over several runs, beside their target until complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from soupmerge.errors import InputError, OutputError
from soupmerge.storage.commit import sync_folder, write_json, writing
from soupmerge.storage.locking import locked
from soupmerge.storage.reading import StableFile, read_json


@dataclass(frozen=True)
class Partial:
    """The part received so far of the file that will be at *target*."""

    target: Path

    @property
    def path(self) -> Path:
        """Where the received bytes are."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def _note(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the target's folder and lock the file against other processes.

        Raises:
            OutputError: another process is writing it, or the folder cannot be created.
        """

        def busy() -> OutputError:
            fix = "wait for it to finish, and run again"
            return OutputError("is being written by another process", where=self.target, fix=fix)

        with writing(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.target.with_name(f".{self.target.name}.lock"), busy=busy):
            yield

    def received(self, origin: str) -> tuple[int, str]:
        """Return how many bytes have been received from *origin*, and the tag of that version.

        Bytes without a note, or from another origin, do not count.
        """
        try:
            note = read_json(self._note)
            size = StableFile.seen(self.path).size
        except InputError:
            return 0, ""
        same = isinstance(note, dict) and note.get("origin") == origin and note.get("tag")
        return (size, str(note["tag"])) if same else (0, "")

    def begin(self, origin: str, tag: str) -> None:
        """Start over, with the version of the file that *origin* identifies by *tag*."""
        with writing(self.target):
            self.path.unlink(missing_ok=True)
            write_json(self._note, {"origin": origin, "tag": tag}, force=True)

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[bytes], int]]:
        """Open the file, and yield a function that appends bytes and returns how many."""
        with writing(self.target), open(self.path, "ab") as file:

            def append(chunk: bytes) -> int:
                count = file.write(chunk)
                file.flush()  # so that the bytes outlive the process
                return count

            yield append

    def sha256(self) -> str:
        """Return the hash of the bytes received."""
        return StableFile.seen(self.path).sha256()

    def finish(self) -> None:
        """Move the complete file to its target, in one rename."""
        with writing(self.target):
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self.path, self.target)
            self._note.unlink(missing_ok=True)
            sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the bytes received."""
        with writing(self.target):
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

"""A file on its way: it grows beside its target over several runs, until it is whole."""

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
    """What has come so far of the file that is to be at *target*."""

    target: Path

    @property
    def path(self) -> Path:
        """Where the bytes are."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def _note(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part.json")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away while the file grows; make its folder.

        Raises:
            OutputError: another process is writing it, or the folder cannot be made.
        """

        def busy() -> OutputError:
            fix = "wait for it, and run again"
            return OutputError("is being written", where=self.target, fix=fix)

        with writing(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.target.with_name(f".{self.target.name}.lock"), busy=busy):
            yield

    def come(self, origin: str) -> tuple[int, str]:
        """Return how many bytes have come from *origin*, and the tag of what they are part of.

        Bytes without a note, or from elsewhere, count as none.
        """
        try:
            note = read_json(self._note)
            size = StableFile.seen(self.path).size
        except InputError:
            return 0, ""
        known = isinstance(note, dict) and note.get("origin") == origin and note.get("tag")
        return (size, str(note["tag"])) if known else (0, "")

    def begin(self, origin: str, tag: str) -> None:
        """Forget what has come; what comes now is part of what *origin* calls *tag*."""
        with writing(self.target):
            self.path.unlink(missing_ok=True)
            write_json(self._note, {"origin": origin, "tag": tag}, force=True)

    @contextlib.contextmanager
    def growing(self) -> Iterator[Callable[[bytes], int]]:
        """Open the file; what is yielded appends bytes, and returns how many."""
        with writing(self.target), open(self.path, "ab") as file:

            def append(chunk: bytes) -> int:
                count = file.write(chunk)
                file.flush()  # what has come outlives the process
                return count

            yield append

    def sha256(self) -> str:
        """Return the hash of what has come."""
        return StableFile.seen(self.path).sha256()

    def finish(self) -> None:
        """Put what has come at its target, in one rename."""
        with writing(self.target):
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self.path, self.target)
            self._note.unlink(missing_ok=True)
            sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove what has come."""
        with writing(self.target):
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

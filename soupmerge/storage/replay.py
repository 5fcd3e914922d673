"""Resumable work: pieces in a fixed order, each read from a journal or else computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from soupmerge.errors import InputError
from soupmerge.storage.journal import Journal
from soupmerge.storage.run_folder import essence

T = TypeVar("T")
START_OVER = "start over with --force"


class Replay:
    """Pieces of work that are requested in the same order every time a run is started.

    A killed run is resumed by running it again: pieces recorded in *journal* are read from it, and
    the others are computed and appended.

    Attributes:
        journal: keeps a record for each piece; None keeps nothing.
        asked: how many pieces have been requested.
        known: how many the journal held at the start.
    """

    def __init__(self, journal: Journal | None) -> None:
        self.journal, self.asked = journal, 0
        self._records = list(journal.records) if journal else []

    @property
    def known(self) -> int:
        """How many pieces the journal held at the start."""
        return len(self._records)

    @property
    def is_known(self) -> bool:
        """Whether the next piece is in the journal."""
        return self.asked < len(self._records)

    def piece(
        self,
        make: Callable[[], T],
        *,
        read: Callable[[dict[str, Any]], T],
        write: Callable[[T], dict[str, Any]],
    ) -> T:
        """Return the next piece of work: *read* from its record, or else computed by *make*.

        A computed piece is recorded in the journal, as given by *write*, before it is returned.
        """
        if self.is_known:
            value = read(self._records[self.asked])
        else:
            value = make()
            if self.journal:
                self.journal.append(write(value))
        self.asked += 1
        return value

    def require_at_most(self, pieces: int, what: str) -> None:
        """Reject a journal with more records than *pieces*; *what* names them in the plural.

        Raises:
            InputError: it has more.
        """
        if self.journal and self.known > pieces:
            message = f"holds {self.known} records for {pieces} {what}"
            raise InputError(message, where=self.journal.path.name, fix=START_OVER)


def require_same(
    record: Mapping[str, Any], identity: Mapping[str, Any], what: str, where: str
) -> None:
    """Reject a *record* that does not belong to the piece of work that *identity* describes.

    Raises:
        InputError: it belongs to another *what*; *where* names the journal.
    """
    if essence({key: record.get(key) for key in identity}) != essence(identity):
        raise InputError(f"a record belongs to another {what}", where=where, fix=START_OVER)

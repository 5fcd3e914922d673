"""Work in a fixed order, each piece done once: a journal answers first, the rest is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from soupmerge.errors import InputError
from soupmerge.storage.journal import Journal
from soupmerge.storage.run_folder import essence

T = TypeVar("T")
START_OVER = "start over with --force"


class Replay:
    """Pieces of work that are asked for in the same order whenever a run is started.

    A killed run is resumed by being run again: the pieces that *journal* holds are read from it,
    the others are made and appended.

    Attributes:
        journal: keeps a record for each piece; None keeps nothing.
        asked: how many pieces have been asked for.
        known: how many the journal held at first.
    """

    def __init__(self, journal: Journal | None) -> None:
        self.journal, self.asked = journal, 0
        self._records = list(journal.records) if journal else []

    @property
    def known(self) -> int:
        """How many pieces the journal held at first."""
        return len(self._records)

    @property
    def is_known(self) -> bool:
        """Whether the piece that is asked for next is in the journal."""
        return self.asked < len(self._records)

    def piece(
        self,
        make: Callable[[], T],
        *,
        read: Callable[[dict[str, Any]], T],
        write: Callable[[T], dict[str, Any]],
    ) -> T:
        """Return the next piece of work, from the journal by *read*, or else by *make*.

        What was made is kept, as *write* puts it, before it is returned.
        """
        if self.is_known:
            value = read(self._records[self.asked])
        else:
            value = make()
            if self.journal:
                self.journal.append(write(value))
        self.asked += 1
        return value

    def require_room(self, pieces: int, what: str) -> None:
        """Refuse a journal that holds more than *pieces*; *what* they are is said in plural.

        Raises:
            InputError: it does.
        """
        if self.journal and self.known > pieces:
            found = f"holds {self.known} records of {pieces} {what}"
            raise InputError(found, where=self.journal.path.name, fix=START_OVER)


def require_same(
    record: Mapping[str, Any], identity: Mapping[str, Any], what: str, where: str
) -> None:
    """Refuse a *record* that is not of the piece of work that *identity* describes.

    Raises:
        InputError: it is of another *what*; *where* names the journal.
    """
    if essence({key: record.get(key) for key in identity}) != essence(identity):
        raise InputError(f"a record is of another {what}", where=where, fix=START_OVER)

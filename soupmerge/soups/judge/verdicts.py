"""Verdicts on single images, kept as they are made: a killed evaluation repeats none."""

from __future__ import annotations

from collections.abc import Mapping

from soupmerge.errors import InputError
from soupmerge.storage.names import VERDICTS
from soupmerge.storage.replay import START_OVER
from soupmerge.storage.run_folder import RunFolder


class Verdicts:
    """The ledger of evaluation number *pair* of a run: it lasts until the evaluation is done."""

    def __init__(self, folder: RunFolder, pair: int) -> None:
        self.journal, self.pair = folder.journal(VERDICTS), pair
        self._verdicts: dict[str, dict[int, bool]] = {}
        for record in self.journal.records:
            if record.get("evaluation") == pair:
                self._take(record)

    def known(self, key: str) -> Mapping[int, bool]:
        """Return example → does it hold, as far as it was kept under *key*."""
        return self._verdicts.get(key, {})

    def add(self, key: str, verdicts: Mapping[int, bool]) -> None:
        """Keep *verdicts* under *key*, and return when they are on disk."""
        record = {
            "evaluation": self.pair,
            "of": key,
            "hold": sorted(i for i, holds in verdicts.items() if holds),
            "fall": sorted(i for i, holds in verdicts.items() if not holds),
        }
        self.journal.append(record)
        self._take(record)

    def _take(self, record: Mapping[str, object]) -> None:
        try:
            known = self._verdicts.setdefault(str(record["of"]), {})
            known |= dict.fromkeys(record["hold"], True)  # type: ignore[call-overload]
            known |= dict.fromkeys(record["fall"], False)  # type: ignore[call-overload]
        except (KeyError, TypeError) as error:
            where = self.journal.path.name
            raise InputError("a record holds no verdicts", where=where, fix=START_OVER) from error


def forget(folder: RunFolder) -> None:
    """Remove what is kept of evaluations that are done."""
    folder.file(VERDICTS).unlink(missing_ok=True)

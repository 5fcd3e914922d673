"""Verdicts on single images, journalled as they are made, so that a resume repeats none."""

from __future__ import annotations

from collections.abc import Mapping

from soupmerge.errors import InputError
from soupmerge.storage.names import VERDICTS
from soupmerge.storage.replay import START_OVER
from soupmerge.storage.run_folder import RunFolder


class Verdicts:
    """A ledger in the run folder, for evaluation number *evaluation*, until that is done."""

    def __init__(self, folder: RunFolder, evaluation: int) -> None:
        self.journal, self.evaluation = folder.journal(VERDICTS), evaluation
        self._verdicts: dict[str, dict[int, bool]] = {}
        for record in self.journal.records:
            if record.get("evaluation") == evaluation:
                self._include(record)

    def known(self, key: str) -> Mapping[int, bool]:
        """Return index of example → whether it withstood, for the verdicts under *key*."""
        return self._verdicts.get(key, {})

    def add(self, key: str, verdicts: Mapping[int, bool]) -> None:
        """Store *verdicts* under *key*, and return once they are on disk."""
        record = {
            "evaluation": self.evaluation,
            "of": key,
            "hold": sorted(i for i, holds in verdicts.items() if holds),
            "fall": sorted(i for i, holds in verdicts.items() if not holds),
        }
        self.journal.append(record)
        self._include(record)

    def _include(self, record: Mapping[str, object]) -> None:
        try:
            verdicts = self._verdicts.setdefault(str(record["of"]), {})
            verdicts |= dict.fromkeys(record["hold"], True)  # type: ignore[call-overload]
            verdicts |= dict.fromkeys(record["fall"], False)  # type: ignore[call-overload]
        except (KeyError, TypeError) as error:
            where = self.journal.path.name
            raise InputError("a record holds no verdicts", where=where, fix=START_OVER) from error


def clear(folder: RunFolder) -> None:
    """Remove the verdicts of finished evaluations."""
    folder.file(VERDICTS).unlink(missing_ok=True)

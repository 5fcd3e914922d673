"""Adversarial images of earlier soups, saved in the run folder so that a search can resume."""

from __future__ import annotations

from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.storage.names import ADVERSARIALS
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.snapshot import Snapshot


class KeptAdversarials(AdversarialCache):
    """A cache of the adversarial images of a search, saved after each soup.

    It is saved before the record of the soup. A kill in between does no harm: the same images fool
    that soup again, and those of other soups have not changed.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        super().__init__()
        self._snapshot = Snapshot(folder.file(ADVERSARIALS)) if folder else None
        saved = self._snapshot.load() if self._snapshot else None
        if self._snapshot and saved:
            with self._snapshot.restoring():
                self.restore(*saved)

    def save(self) -> None:
        """Write the cache to the run folder."""
        if self._snapshot:
            self._snapshot.save(*self.state())

    def clear(self) -> None:
        """Remove the saved cache, as the search is over."""
        if self._snapshot:
            self._snapshot.clear()

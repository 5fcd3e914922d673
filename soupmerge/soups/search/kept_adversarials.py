"""What fooled the soups before, kept in the run folder, so that a killed search goes on with it."""

from __future__ import annotations

from soupmerge.robustness.adversarial_cache import AdversarialCache
from soupmerge.storage.names import ADVERSARIALS
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.snapshot import Snapshot


class KeptAdversarials(AdversarialCache):
    """Adversarial images of a search's soups, as they were after the last soup.

    They are saved before the soup's record. A kill in between does no harm: what fooled that soup
    fools it again, and of the others nothing has changed.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        super().__init__()
        self._snapshot = Snapshot(folder.file(ADVERSARIALS)) if folder else None
        kept = self._snapshot.load() if self._snapshot else None
        if self._snapshot and kept:
            with self._snapshot.restoring():
                self.restore(*kept)

    def save(self) -> None:
        """Keep what is held."""
        if self._snapshot:
            self._snapshot.save(*self.state())

    def clear(self) -> None:
        """Forget what is kept: the search is over."""
        if self._snapshot:
            self._snapshot.clear()

"""The written form ``hf-hub:owner/name[@revision][:file]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from soupmerge.errors import UnsafeError, UsageError

PREFIX = "hf-hub:"
COMMIT = re.compile(r"[0-9a-f]{40}")
_FORM = re.compile(r"hf-hub:([^@:]*)(?:@([^:]*))?(?::(.*))?", re.DOTALL)
_PART = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class HubRef:
    """A repository of the Hub, and what of it.

    Attributes:
        repo: ``owner/name``.
        revision: a branch, a tag or a commit.
        file: the path of a file in it, or None for the weights that stand for the repository.
    """

    repo: str
    revision: str = "main"
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubRef:
        """Return the reference written *text*.

        Raises:
            UsageError: it is not of the form.
            UnsafeError: a name in it leads out of the repository.
        """
        form = "hf-hub:owner/name[@revision][:file]"
        match = _FORM.fullmatch(text)
        repo, revision, file = match.groups() if match else ("", None, None)
        names = repo.split("/")
        if len(names) != 2 or not all(map(_PART.fullmatch, names)):
            raise UsageError("names no repository", where=text, fix=f"write {form}")
        if "" in (revision, file):
            raise UsageError("ends where a name should follow", where=text, fix=f"write {form}")
        if led_out := [name for name in (repo, revision, file) if name and not is_inside(name)]:
            what = f"{led_out[0]!r} may lead out of the repository"
            raise UnsafeError(what, where=text, fix=f"write {form}")
        return cls(repo, revision or "main", file)

    def at(self, commit: str) -> HubRef:
        """Return the reference to the same at *commit*."""
        return replace(self, revision=commit)

    @property
    def pinned(self) -> bool:
        """Whether it names one commit, which no one can move."""
        return COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{revision}" + (f":{self.file}" if self.file else "")


def is_inside(name: str) -> bool:
    """Return whether *name*, a path with slashes, stays in the folder that it begins in.

    An allow-list: no drive, share, device or stream has a name made of these parts alone.
    """
    parts = name.split("/")
    return all(re.fullmatch(r"[\w.][\w. =+-]*", part) and ".." not in part for part in parts)

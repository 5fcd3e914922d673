"""References to repositories of the Hub: weights are ``hf-hub:…``, data sets ``hf:…``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from soupmerge.errors import UnsafeError, UsageError

PREFIX, DATA = "hf-hub:", "hf:"
DATASETS = "datasets/"
"""How the Hub's addresses of data sets begin."""
FORMS = {PREFIX: "hf-hub:owner/name[@revision][:file]", DATA: "hf:owner/name[@revision][:config]"}
COMMIT = re.compile(r"[0-9a-f]{40}")
_FORM = re.compile(r"([^@:]*)(?:@([^:]*))?(?::(.*))?", re.DOTALL)
_PART = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class HubRef:
    """A repository of the Hub at a revision, and perhaps a file of it.

    Attributes:
        repo: ``owner/name``; of a data set, ``datasets/owner/name``.
        revision: a branch, a tag or a commit.
        file: the path of a file in it, or a configuration of a data set; None for the weights, or
            the only configuration, that are found in it.
    """

    repo: str
    revision: str = "main"
    file: str | None = None

    @classmethod
    def parse(cls, text: str, prefix: str = PREFIX) -> HubRef:
        """Return the reference that *text* spells.

        Args:
            text: begins with *prefix*.
            prefix: `PREFIX`, or `DATA` for a data set.

        Raises:
            UsageError: it does not have the form.
            UnsafeError: a name in it leads out of the repository.
        """
        form = FORMS[prefix]
        match = _FORM.fullmatch(text[len(prefix) :]) if text.startswith(prefix) else None
        repo, revision, file = match.groups() if match else ("", None, None)
        names = repo.split("/")
        if len(names) != 2 or not all(map(_PART.fullmatch, names)):
            raise UsageError("names no repository", where=text, fix=f"write {form}")
        if "" in (revision, file):
            raise UsageError("a name is missing after @ or :", where=text, fix=f"write {form}")
        if outside := [name for name in (repo, revision, file) if name and not is_inside(name)]:
            what = f"{outside[0]!r} may lead out of the repository"
            raise UnsafeError(what, where=text, fix=f"write {form}")
        home = DATASETS if prefix == DATA else ""
        return cls(home + repo, revision or "main", file)

    def at(self, commit: str) -> HubRef:
        """Return the reference to the same at *commit*."""
        return replace(self, revision=commit)

    @property
    def pinned(self) -> bool:
        """Whether it names a commit, which never moves."""
        return COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        kind, name = kind_of(self.repo)
        revision = "" if self.revision == "main" else f"@{self.revision}"
        prefix = DATA if kind == "dataset" else PREFIX
        return f"{prefix}{name}{revision}" + (f":{self.file}" if self.file else "")


def kind_of(repo: str) -> tuple[str, str]:
    """Return what the Hub calls the kind of *repo*, and ``owner/name``.

    Example:
        >>> kind_of("datasets/me/photos"), kind_of("me/net")
        (('dataset', 'me/photos'), ('model', 'me/net'))
    """
    name = repo.removeprefix(DATASETS)
    return ("dataset" if name != repo else "model"), name


def is_inside(name: str) -> bool:
    """Return whether *name*, a path with slashes, stays below the folder that it starts from.

    This is an allow-list, which excludes drives, shares, devices and streams.
    """
    parts = name.split("/")
    return all(re.fullmatch(r"[\w.][\w. =+-]*", part) and ".." not in part for part in parts)

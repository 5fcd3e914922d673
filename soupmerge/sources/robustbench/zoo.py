"""What is in the zoo: names, networks, files, licences. Read from a table; no torch, no network.

The facts in ``zoo.csv`` are those of RobustBench 1.1.1 and its model_info. *start* is what a
network's training started from: ``scratch``, another entry, or ``unknown``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from soupmerge.errors import UsageError, near_miss

PREFIX = "rb:"
SCRATCH, UNKNOWN = "scratch", "unknown"


@dataclass(frozen=True)
class Entry:
    """One checkpoint of the zoo.

    Attributes:
        name: ``cifar10/Linf/NAME``, as in RobustBench; with ``_m0`` and so on for the parts of an
            ensemble.
        network: its written form; empty if soupmerge has none.
        key: the state dict to take from a file that wraps several, if RobustBench says so.
        source: where the file is: ``gdrive:ID`` or an address.
        licence: of the weights, as the Hub spells it.
        start: what training started from: `SCRATCH`, `UNKNOWN` or another entry's name.
        eps, clean, robust: threat and accuracies in percent, as RobustBench lists them.
    """

    name: str
    network: str
    key: str
    source: str
    licence: str
    start: str
    eps: str
    clean: str
    robust: str

    @property
    def ref(self) -> str:
        """The written form."""
        return PREFIX + self.name

    @property
    def run(self) -> str | None:
        """The name of the training run from scratch that the weights come from, if it is known."""
        if self.start == SCRATCH:
            return self.ref
        return None if self.start == UNKNOWN else PREFIX + self.start


@cache
def entries() -> Mapping[str, Entry]:
    """Return name → entry, in RobustBench's order."""
    table = files("soupmerge.sources.robustbench").joinpath("zoo.csv")
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return {entry.name: entry for row in rows for entry in _entries_of(row)}


def _entries_of(row: dict[str, str]) -> Iterator[Entry]:
    sources = row.pop("files").split(" ")
    whole = Entry(source=sources[0], **row)
    if len(sources) == 1:
        yield whole
        return
    for i, source in enumerate(sources):
        # Accuracies are those of the ensemble; its parts were trained together, or are others'.
        name = f"{whole.name}_m{i}"
        yield replace(whole, name=name, source=source, start=UNKNOWN, clean="", robust="")


def entry(ref: str) -> Entry:
    """Return the entry that *ref*, ``rb:DATA/THREAT/NAME``, names.

    Raises:
        UsageError: there is none; what may have been meant is said.
    """
    name = ref.removeprefix(PREFIX).partition("?")[0]
    found = entries().get(name)
    if found is None:
        what = f"RobustBench has no {name!r}"
        raise UsageError(what, where=ref, fix=_meant(name))
    return found


def _meant(name: str) -> str:
    """Return what *name* may have meant: the right name at another place, or one like it."""
    last = name.rpartition("/")[2].lower()
    same = [PREFIX + n for n in entries() if n.lower().rpartition("/")[2] in (last, f"{last}_m0")]
    if last and same:
        return "did you mean " + " or ".join(map(repr, same)) + "?"
    listed = "soupmerge pull --list rb lists all"
    near = near_miss(PREFIX + name, [PREFIX + n for n in entries()])
    return f"{near} ({listed})" if near.startswith("did you") else listed


def network(ref: str) -> str:
    """Return the written form of the network of the entry *ref*, with the arguments of its query.

    Raises:
        UsageError: there is no such entry, or no network for it.
    """
    found = entry(ref)
    if not found.network:
        fix = "give --model package.module:function"
        raise UsageError("soupmerge has no network for it", where=ref, fix=fix)
    query = ref.partition("?")[2]
    joint = "&" if "?" in found.network else "?"
    return found.network + (joint + query if query else "")


def listed(beginning: str = "") -> list[Entry]:
    """Return the entries whose names begin with *beginning*, as ``cifar10/Linf``; all if empty.

    Raises:
        UsageError: there is none.
    """
    beginning = beginning.removeprefix(PREFIX.rstrip(":")).removeprefix(":")
    found = [e for e in entries().values() if e.name.startswith(beginning)]
    if not found:
        places = sorted({e.name.rpartition("/")[0] for e in entries().values()})
        what = f"RobustBench has nothing that begins with {beginning!r}"
        raise UsageError(what, where="--list rb", fix=near_miss(beginning, places))
    return found

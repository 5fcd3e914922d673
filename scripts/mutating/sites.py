"""Where the package can be changed, a seeded sample of such places, and the listed equivalents."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cached_property
from pathlib import Path
from typing import Any

import parso
from cosmic_ray.mutating import mutate_code

from mutating.operators import by_type, is_noise, operators

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = "soupmerge"
ROOMS = [
    *("weights", "robustness", "soups", "storage", "training", "sources", "exports", "figures"),
    *("cli", "ground"),
]
OPERATORS = operators()
BY_TYPE = by_type(OPERATORS)


def preloaded(root: Path) -> list[str]:
    """Return the modules that pyproject.toml wants loaded before the first fork."""
    told = tomllib.loads((root / "pyproject.toml").read_text())
    return told.get("tool", {}).get("mutate", {}).get("preload", [])


def room_of(path: str) -> str:
    """Return the room of a file below the package or the tests; single modules are the ground."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 2 else "ground"


def digest(*parts: object) -> str:
    """Return a short hash of some texts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Mutant:
    """One change: the *occurrence* of an operator in a file, and the lines that tests must run.

    *name* does not depend on line numbers, so that a sample stays the same while other places are
    edited. *imported* is true of what runs when the module is imported, which no test can be held
    to have run; *lines* of the head of a function are those of its body.
    """

    file: str
    source: str
    operator: str
    occurrence: int
    line: int
    lines: tuple[int, int]
    imported: bool
    scope: str
    name: str

    @cached_property
    def mutated(self) -> str:
        """Return the changed source."""
        return mutate_code(self.source, OPERATORS[self.operator], self.occurrence) or self.source

    def is_change(self) -> bool:
        """Tell whether the changed source compiles, and is another program."""
        try:
            return ast.dump(ast.parse(self.source)) != ast.dump(ast.parse(self.mutated))
        except SyntaxError:
            return False

    def changed(self) -> tuple[str, str]:
        """Return the lines that go and those that come, without white space."""
        lines = self.diff().splitlines()[2:]
        old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        return _squeezed(old), _squeezed(new)

    def diff(self) -> str:
        """Return a unified diff."""
        old, new = (text.splitlines(keepends=True) for text in (self.source, self.mutated))
        return "".join(unified_diff(old, new, self.file, f"{self.file} ({self.operator})", n=2))


def sites(file: str, source: str) -> list[Mutant]:
    """Return all changes of one file."""
    found, counts, names = [], Counter(), Counter()
    texts = source.splitlines()
    for node, noise, scope in _walk(parso.parse(source), False, ()):
        for name in BY_TYPE.get(node.type, BY_TYPE[""]):
            operator = OPERATORS[name]
            for start, end in operator.mutation_positions(node):
                if not noise:
                    imported, lines = _lines(node, start[0], end[0])
                    where = ".".join(s.name.value for s in scope)
                    told = (file, where, name, texts[start[0] - 1].strip())
                    mutant = Mutant(
                        file, source, name, counts[name], start[0], lines, imported,
                        where,
                        f"{digest(*told)}/{names[told]}",
                    )  # fmt: skip
                    found.append(mutant)
                    names[told] += 1
                counts[name] += 1
    return found


def _walk(node: Any, noise: Any, scope: tuple[Any, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield all nodes, each before those below it, as cosmic-ray counts occurrences."""
    noise = noise or is_noise(node)
    yield node, noise, scope
    scope += (node,) * (node.type in ("funcdef", "classdef"))
    for child in getattr(node, "children", ()):
        yield from _walk(child, noise, scope)


def _lines(node: Any, start: int, end: int) -> tuple[bool, tuple[int, int]]:
    """Return whether the place runs at import, and the lines by which tests are chosen."""
    head, child, statement = None, node, None
    while (parent := child.parent) is not None:
        if child.type == "simple_stmt" and statement is None:
            statement = child
        if parent.type == "funcdef":
            if child is parent.children[-1]:
                reach = (
                    (statement.start_pos[0], statement.end_pos[0] - 1)
                    if statement
                    else (start, end)
                )
                return False, (min(start, reach[0]), max(end, reach[1]))
            head = parent
        elif parent.type == "decorated" and child.type in ("decorator", "decorators"):
            head = parent.children[-1]
        child = parent
    if head is not None and head.type == "funcdef":
        body = head.children[-1]
        return False, (body.start_pos[0], body.end_pos[0] - 1)
    return True, (start, end)


def sample(mutants: list[Mutant], rooms: list[str], number: int, seed: int) -> list[Mutant]:
    """Return *number* changes, evenly from all rooms, in an order that any prefix is fair to.

    Each change has its place by a hash of the seed and its name, so that a larger sample contains
    the smaller, and an edit elsewhere does not change the sample.
    """
    queues = defaultdict(list)
    for mutant in sorted(mutants, key=lambda m: digest(seed, m.name)):
        queues[room_of(mutant.file)].append(mutant)
    lines = [(m for m in queues[room] if m.is_change()) for room in rooms]
    chosen: list[Mutant] = []
    while lines and len(chosen) < number:
        for line in list(lines):
            mutant = next(line, None)
            if mutant is None:
                lines.remove(line)
            elif len(chosen) < number:
                chosen.append(mutant)
    return chosen


class Equivalents:
    """Changes of which it has been argued that no test can notice them.

    An entry has the file, the old and the new text of the lines that differ, and the reason; where
    the same lines stand in several functions, also the function (`scope`).
    """

    def __init__(self, path: Path) -> None:
        """Read the list, if there is one."""
        told = tomllib.loads(path.read_text()) if path.exists() else {}
        self.entries: list[dict[str, str]] = told.get("equivalent", [])
        for entry in self.entries:
            if entry.keys() - {"scope"} != {"file", "old", "new", "reason"} or not entry["reason"]:
                raise SystemExit(f"{path}: needs file, old, new, reason, perhaps scope: {entry}")

    def reason(self, mutant: Mutant) -> str | None:
        """Return why *mutant* changes nothing, if it is listed."""
        for entry in self.entries:
            here = entry["file"] == mutant.file and entry.get("scope", mutant.scope) == mutant.scope
            texts = _squeezed(entry["old"]), _squeezed(entry["new"])
            if here and mutant.changed() == texts:
                return entry["reason"]
        return None

    def stale(self, root: Path) -> list[dict[str, str]]:
        """Return entries whose old lines are no longer in the file."""
        files = {entry["file"] for entry in self.entries if (root / entry["file"]).exists()}
        texts = {file: _squeezed((root / file).read_text()) for file in files}
        return [e for e in self.entries if _squeezed(e["old"]) not in texts.get(e["file"], "")]


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)

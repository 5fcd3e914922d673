"""The places where the package can be changed, a seeded sample of them, and the equivalents."""

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
from itertools import islice, zip_longest
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
    tables = tomllib.loads((root / "pyproject.toml").read_text())
    modules: list[str] = tables.get("tool", {}).get("mutate", {}).get("preload", [])
    return modules


def room_of(path: str) -> str:
    """Return the room of a file of the package or of tests; single modules are the ground."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 2 else "ground"


def digest(*parts: object) -> str:
    """Return a short hash of some texts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Mutant:
    """One change: an occurrence of an operator in a file.

    Tests that run one of *lines* can notice it; what runs *at_import* has no tests of its own. The
    *name* is free of line numbers, so that an edit elsewhere does not change it.
    """

    file: str
    source: str
    operator: str
    occurrence: int
    scope: str
    name: str
    at_import: bool
    lines: range

    @cached_property
    def mutated(self) -> str:
        """The changed source."""
        return mutate_code(self.source, OPERATORS[self.operator], self.occurrence) or self.source

    @cached_property
    def id(self) -> str:
        """The key of its verdict."""
        return digest(self.name, self.mutated)

    def is_valid(self) -> bool:
        """Tell whether the changed source compiles to another program."""
        try:
            return ast.dump(ast.parse(self.source)) != ast.dump(ast.parse(self.mutated))
        except (SyntaxError, AttributeError):  # of an exception whose name has a dot
            return False

    def changed(self) -> tuple[str, str]:
        """Return the old and the new text of the lines that differ, without white space."""
        lines = self.diff().splitlines()[2:]
        old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        return _squeezed(old), _squeezed(new)

    def diff(self) -> str:
        """Return a unified diff."""
        old, new = (text.splitlines(keepends=True) for text in (self.source, self.mutated))
        return "".join(unified_diff(old, new, self.file, f"{self.file} ({self.operator})", n=2))


def sites(file: str, source: str) -> list[Mutant]:
    """Return all mutants of one file."""
    found: list[Mutant] = []
    occurrences, alike = Counter[str](), Counter[Any]()
    texts = source.splitlines()
    for node, noise, scope in _walk(parso.parse(source), False, ""):
        for operator in BY_TYPE.get(node.type, BY_TYPE[""]):
            for start, end in OPERATORS[operator].mutation_positions(node):
                occurrence, line = occurrences[operator], start[0]
                occurrences[operator] += 1
                if noise:
                    continue
                key = (file, scope, operator, texts[line - 1].strip())
                name = f"{digest(*key)}/{alike[key]}"
                alike[key] += 1
                where = _reach(node, line, end[0])
                found.append(Mutant(file, source, operator, occurrence, scope, name, *where))
    return found


def _walk(node: Any, noise: bool, scope: str) -> Iterator[tuple[Any, bool, str]]:
    """Yield all nodes in the order in which cosmic-ray counts occurrences."""
    noise = noise or is_noise(node)
    yield node, noise, scope
    if node.type in ("funcdef", "classdef"):
        scope = f"{scope}.{node.name.value}".strip(".")
    for child in getattr(node, "children", ()):
        yield from _walk(child, noise, scope)


def _reach(node: Any, first: int, last: int) -> tuple[bool, range]:
    """Return whether a place runs at import, and the lines by which its tests are chosen.

    Those are the lines of its statement, or, in the head of a function, of the function's body.
    """
    function = None
    while (parent := node.parent) is not None:
        if node.type == "simple_stmt":
            first, last = min(first, node.start_pos[0]), max(last, node.end_pos[0] - 1)
        if parent.type == "funcdef" and node is parent.children[-1]:
            return False, range(first, last + 1)
        if parent.type == "funcdef":
            function = parent
        elif parent.type == "decorated" and node is not parent.children[-1]:
            function = parent.children[-1]
        node = parent
    if function is None or function.type != "funcdef":
        return True, range(first, last + 1)
    body = function.children[-1]
    return False, range(body.start_pos[0], body.end_pos[0])


def sample(mutants: list[Mutant], rooms: list[str], number: int, seed: int) -> list[Mutant]:
    """Return *number* valid mutants, evenly from all rooms.

    They are ordered by a hash of the seed and their name. So a larger sample contains the smaller,
    any first part is a fair sample, and an edit elsewhere leaves the sample as it was.
    """
    by_room = defaultdict(list)
    for mutant in sorted(mutants, key=lambda mutant: digest(seed, mutant.name)):
        by_room[room_of(mutant.file)].append(mutant)
    queues = [filter(Mutant.is_valid, by_room[room]) for room in rooms]
    rounds = zip_longest(*queues)
    return list(islice((m for row in rounds for m in row if m is not None), number))


class Equivalents:
    """Mutants of which it has been argued that no test can notice them.

    An entry holds a file, the old and the new text of the lines that differ, and the reason; also
    the function (`scope`) if the same lines occur in several.
    """

    def __init__(self, path: Path) -> None:
        """Read the list, if there is one."""
        tables = tomllib.loads(path.read_text()) if path.exists() else {}
        self.entries: list[dict[str, str]] = tables.get("equivalent", [])
        for entry in self.entries:
            if entry.keys() - {"scope"} != {"file", "old", "new", "reason"} or not entry["reason"]:
                raise SystemExit(f"{path}: give file, old, new, reason and perhaps scope: {entry}")

    def reason(self, mutant: Mutant) -> str | None:
        """Return why no test can notice *mutant*, if it is listed."""
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

"""The catalogue of hostile input, row by row: each ends as documented, named, and harmless."""

from __future__ import annotations

import re
import shlex
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import (
    CATALOGUE,
    ELSEWHERE,
    commands,
    headers,
    places,
    runs,
    searches,
    states,
    torchfiles,
)
from tests.hostile.guard import (
    WATCH,
    Ended,
    files_in,
    in_child,
    time_limit,
    without_rights,
)
from tests.hostile.rows import BOTH, MIXED, READ, Row, save

Typed = Callable[..., Any]
TABLES = (headers, places, torchfiles, states, commands, runs, searches)
ROWS = [row for home in TABLES for row in home.TABLE]
BAD_ITSELF = (READ, MIXED, BOTH)
"""Lines of rows where the file itself is to blame, and so is named."""

LONGEST = 20_000
"""Characters that anyone would read of what is wrong."""


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a folder that also someone without rights may enter, as pytest's may not be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return the memory that looking at a small good file takes."""
    home = tmp_path_factory.mktemp("baseline")
    ended = in_child(["inspect", save(home / "good.safetensors")], home, {})
    assert ended.status == 0
    return ended.memory


def test_every_row_of_the_catalogue_is_here_or_said_to_be_elsewhere() -> None:
    found = {row.id.split()[0] for row in ROWS}
    assert found | set(ELSEWHERE) == set(CATALOGUE.split())
    assert [id for id, times in Counter(row.id for row in ROWS).items() if times > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_hostile_input_ends_as_documented(
    row: Row,
    soupmerge: Typed,
    baseline: int,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    for name, value in row.env.items():
        monkeypatch.setenv(name, value)
    given = {"good": home / "good.safetensors", "good2": home / "good2.safetensors"}
    for seed, path in enumerate(given.values()):
        save(path, seed=seed)
    given |= {"out": home / "out.safetensors", "old": home / "old.safetensors"}
    given["old"].write_bytes(b"an earlier soup")
    given |= {"home": home, "x": row.make(home)}
    before = files_in(home)
    for line in row.lines:
        words = [word.format(**given) for word in shlex.split(line)]
        if row.lean:
            ended = in_child(words, home, dict(row.env))
            if row.status:
                most = baseline + 2 * given["x"].stat().st_size + (64 << 20)
                assert ended.memory <= most, f"{ended.memory >> 20} MiB, {most >> 20} at most"
        else:
            ended = in_process(row, soupmerge, words)
        said = ended.err + ended.out
        assert ended.status == row.status, said
        assert ended.seen == [], "code was run"
        require_words(row, ended, given["x"])
    after = files_in(home)
    may_change = row.makes if row.status else ("out", "old.safetensors", *row.makes)
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    assert [name for name in changed if not name.startswith(tuple(may_change))] == []
    if row.check:
        row.check(home)


def in_process(row: Row, soupmerge: Typed, words: list[str]) -> Ended:
    """Type a command here, which is faster, under the same guard."""
    rights = without_rights() if row.nobody else nullcontext()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with time_limit(), rights, WATCH.watching() as seen:
            result = soupmerge(*words)
    warned = "".join(f"\nwarning: {w.message}" for w in caught if w.category is UserWarning)
    return Ended(result.status, result.out, result.err + warned, 0, seen)


def require_words(row: Row, ended: Ended, made: object) -> None:
    """Hold what was said to the rules of messages."""
    said = ended.err + ended.out
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", said)
    for word in row.words:
        assert word in said or word in plain, f"{word!r} not in {said[:LONGEST]}"
    assert "Traceback" not in said
    assert "weights_only" not in said
    assert "\x1b" not in said
    errors = [e for e in ended.err.splitlines() if e.startswith("soupmerge: error: ")]
    if row.status in (0, 1):
        assert errors == []
        return
    assert len(errors) == 1, said
    assert ended.out == ""
    assert len(ended.err) < LONGEST, f"{len(ended.err):,} characters"
    message = ended.err.partition("soupmerge: error: ")[2]
    assert re.search(row.fix, message), f"no fix in {message}"
    if row.status != 2 and row.lines in BAD_ITSELF and isinstance(made, Path):
        assert named(made) in message, f"{made.name!r} is not named in {message}"
    elif row.status != 2:
        assert re.search(r"/\w|(^|\s)-[-\w]", message), f"no path, no option in {message}"


def named(path: Path) -> str:
    """Return how messages name *path*."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in path.name)

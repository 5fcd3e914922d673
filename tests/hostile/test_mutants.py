"""Hundreds of files damaged by chance: each is read, or refused by an error of ours."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from soupmerge.errors import SoupmergeError
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.lineage import family_of
from soupmerge.weights.recipe_files import read_recipe
from tests.hostile.guard import WATCH, TooLongError, time_limit
from tests.hostile.mutants import KINDS, seeds
from tests.hostile.rows import PLAIN

COUNT = 70
LAWFUL = (3, 4, 7)


def read_fully(path: Path) -> None:
    """Read all that commands would read of *path*."""
    if path.suffix == ".json" and not path.name.endswith(".index.json"):
        json.dumps(read_recipe(path).to_json())
        return
    checkpoint = open_checkpoint(path)
    for name in checkpoint:
        tensor = checkpoint[name]
        assert tuple(tensor.shape) == checkpoint.infos[name].shape
    for label, text in checkpoint.rows():
        assert f"{label} {text}"
    list(family_of(checkpoint).lines())


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    faults, refused = [], 0
    for seed, draw in seeds(kind, COUNT):
        home = tmp_path / "home"
        home.mkdir()
        path = KINDS[kind](home, draw)
        try:
            with time_limit(2), WATCH.watching() as seen:
                read_fully(path)
        except SoupmergeError as error:
            refused += 1
            if error.exit_status not in LAWFUL or not re.search(PLAIN, str(error)):
                faults.append(f"{seed}: {error.exit_status}: {error}"[:300])
        except (Exception, TooLongError) as error:
            faults.append(f"{seed}: {type(error).__name__}: {error}"[:300])
        if seen:
            faults.append(f"{seed}: {seen}")
        shutil.rmtree(home)
    assert not faults, "\n".join([f"{len(faults)} of {COUNT}", *faults[:20]])
    # Notes may be anyone's: what makes no sense in them is passed over.
    wanted = 0 if kind == "note_values" else COUNT // 10
    assert refused >= wanted, "hardly any was damaged where it matters"

"""The same soup is the same bytes: in any folder, at any time, by any number of threads."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.disk import whole
from tests.hostile.rows import save

SURROUNDINGS = (
    {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "TZ": "UTC"},
    {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "4", "USER": "somebody", "HOSTNAME": "elsewhere"},
    {"PYTHONHASHSEED": "random", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"},
)


@pytest.mark.parametrize(
    ("options", "out"),
    [
        (["-w", "1/3,1/3,1/3"], "soup.safetensors"),
        (["-w", "uniform", "-w", "block3=1/2,1/2,0", "--groups", "module"], "a b.safetensors"),
        (["-w", "0.2,0.3,0.5", "--dtype", "bfloat16"], "half.safetensors"),
        (["-w", "uniform", "--max-shard-size", "200KB"], "folder"),
    ],
    ids=["one", "groups", "dtype", "shards"],
)
def test_a_soup_is_the_same_bytes_everywhere(tmp_path: Path, options: list[str], out: str) -> None:
    """In processes of their own, as hashes are salted when one begins."""
    draw = np.random.default_rng(0)
    for name in "abc":
        layers = {f"block{i}__w": draw.standard_normal(9_000 + i).astype("f4") for i in range(20)}
        save(tmp_path / f"{name}.safetensors", **layers)
    found = set()
    for number, surroundings in enumerate(SURROUNDINGS):
        home = tmp_path / f"folder {number}" / "deeper"
        home.mkdir(parents=True)
        for name in "abc":
            shutil.copy(tmp_path / f"{name}.safetensors", home)
        inputs = [home / f"{n}.safetensors" if number % 2 else f"{n}.safetensors" for n in "abc"]
        there = home / f"{number}{out}" if number % 2 else out
        ended = subprocess.run(
            [sys.executable, "-m", "soupmerge", "mix", *inputs, *options, "-o", there],
            cwd=home,
            env={**os.environ, **surroundings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        parts = whole(home / there)
        names = sorted(parts) if len(parts) > 1 else [""]
        found.add(
            (*names, *(hashlib.sha256(part).hexdigest() for _, part in sorted(parts.items())))
        )
    assert len(found) == 1

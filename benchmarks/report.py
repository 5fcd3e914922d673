"""A grid of 10,000 judged soups: how long `select` and `report` take, and how large the page is.

The script writes the run folder, with random verdicts, since both commands only read verdicts.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np

from soupmerge.soups.lattice import lattice
from soupmerge.storage import run_folder
from soupmerge.storage.journal import _encode

PARTS, QUICK_PARTS = 140, 43
"""Steps of the lattice of three ingredients: 10,011 soups, or 990."""

N = 500
THREATS = ("linf:8/255", "l2:0.5")
SECONDS, MEGABYTES = 3.0, 12.0


def main() -> None:
    given = common.options(argparse.ArgumentParser(description=__doc__))
    times = 1 if given.quick else 5
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "grid")
        size = write_run(folder, QUICK_PARTS if given.quick else PARTS)
        report = [common.PYTHON, "-m", "soupmerge", "report", str(folder)]
        (page,) = common.in_turn([*report, "--format", "none"], times=times)
        (both,) = common.in_turn(report, times=times)
        select = [common.PYTHON, "-m", "soupmerge", "select", str(folder), "--metric", "union"]
        (chosen,) = common.in_turn([*select, "--where", "clean>=0.8"], times=times)
        large = (folder / "report.html").stat().st_size / 1e6
    ratios = {
        f"seconds to select from {size:,} soups": common.ratio(chosen, f"<= {SECONDS}"),
        f"seconds to write the page of {size:,} soups": common.ratio(page, f"<= {SECONDS}"),
        "seconds with its figures as PNG": common.ratio(both, f"<= {2 * SECONDS}"),
        "megabytes of the page": common.ratio(large, f"<= {MEGABYTES}"),
    }
    common.answer(ratios, as_json=given.json)


def write_run(folder: Path, parts: int) -> int:
    """Write the run of a grid into *folder*, and return how many soups it has."""
    names = ("linf", "l2", "l1")
    sources = [{"ref": f"{name}.safetensors", "sha256": name * 16} for name in names]
    attacks = {threat: {"attack": "apgd-ce", "steps": 100} for threat in THREATS}
    data = {"ref": "digits", "split": "val", "n": N, "sha256": "0" * 64}
    manifest = {
        "command": "grid",
        "inputs": sources,
        "benchmark": {"data": data, "name": "val", "attacks": attacks, "seed": 0},
        "settings": {"step": f"1/{parts}", "buffers": "average", "base": 0},
    }
    with run_folder.opened(folder, manifest) as opened:
        trials = list(records(sources, parts))
        lines = [_encode(trial) for trial in trials]
        # All lines at once: a journal would wait for the disk after each.
        opened.file("trials.jsonl").write_text("\n".join(lines) + "\n")
        opened.file("recipe.json").write_text(json.dumps(trials[0]["recipe"]))
    return len(lines)


def records(sources: list[dict[str, str]], parts: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(0)
    for weights in lattice(3, parts):
        a, b, _ = weights
        expected = (
            0.93 - 0.15 * a - 0.05 * b,
            0.05 + 0.45 * a,
            0.2 + 0.2 * a + 0.3 * b,
            0.04 + a / 3,
        )
        found = [round(N * (mean + chance.gauss(0, 0.005))) for mean in expected]
        metrics = dict(zip(("clean", *THREATS, "union"), map(measured, found), strict=True))
        recipe = {
            "format": "soupmerge-recipe/1",
            "ingredients": sources,
            "groups": "model",
            "weights": {"model": weights},
            "buffers": {"policy": "average", "base": 0},
            "origin": "grid",
        }
        # Each metric is right on its first images, so the union is the smallest count.
        found[-1] = min(found[:-1])
        metrics["union"] = measured(found[-1])
        packed = {
            metric: base64.b64encode(np.packbits(np.arange(N) < count).tobytes()).decode()
            for metric, count in zip(("clean", *THREATS), found, strict=False)
        }
        yield {"weights": weights, "recipe": recipe, "metrics": metrics, "flags": packed}


def measured(correct: int) -> dict[str, Any]:
    interval = [round(max(0.0, correct / N - 0.04), 4), round(min(1.0, correct / N + 0.04), 4)]
    return {"accuracy": correct / N, "correct": correct, "n": N, "ci95": interval}


if __name__ == "__main__":
    main()

"""A run with any names, judged by numbers on paper, and what a page is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from soupmerge.storage import run_folder

HOSTILE = [
    "<script>alert(1)</script>.safetensors",
    "\"'><img src=x onerror=alert(1)></script><!--.safetensors",
    "a\x1b[31mb\u202egpj.%{y}$x$&lt;b&gt;\u2028.safetensors",
]


def measured(correct: int, n: int = 100) -> dict[str, Any]:
    p = correct / n
    return {"accuracy": p, "correct": correct, "n": n, "ci95": [max(0, p - 0.1), min(1, p + 0.1)]}


def recipe(refs: Sequence[str], rows: dict[str, list[float]], **more: Any) -> dict[str, Any]:
    return {
        "format": "soupmerge-recipe/1",
        "ingredients": [{"ref": ref, "sha256": f"{k}" * 64} for k, ref in enumerate(refs)],
        "groups": "model" if len(rows) == 1 else "tensor",
        "weights": rows,
        "buffers": {"policy": "average", "base": 0},
        "origin": "grid",
        **more,
    }


ROWS = [
    ([1.0, 0.0, 0.0], 90, 20),
    ([0.0, 1.0, 0.0], 60, 60),
    ([0.0, 0.0, 1.0], 70, 30),
    ([0.5, 0.5, 0.0], 80, 50),
    ([0.0, 0.5, 0.5], 50, 40),
]
"""Coefficients, clean and robust accuracy; the front is the first two and the fourth."""


def written(path: Path, refs: Sequence[str] = ("a", "b", "c"), **more: Any) -> Path:
    """Write a run of a grid of three, judged as `ROWS` say."""
    data = {"ref": f"folder:{refs[0]}", "split": "val", "n": 100, "sha256": "d" * 64}
    attack = {"attack": "apgd-ce", "steps": 5}
    manifest = {
        "command": "grid",
        "inputs": [{"ref": ref, "sha256": f"{k}" * 64} for k, ref in enumerate(refs)],
        "benchmark": {"data": data, "attacks": {"linf:0.1": attack}},
        "settings": {"step": "1/2", "named": refs[1]},
        **more,
    }
    with run_folder.opened(path, manifest) as folder:
        journal = folder.journal("trials.jsonl")
        for row, clean, robust in ROWS:
            metrics = {"clean": measured(clean), "linf:0.1": {**measured(robust), **attack}}
            doubt = {"name": "chance", "what": f"a doubt about {refs[2]}", "fix": "look again"}
            notes = {"notes": {"doubts": [doubt]}} if robust == 50 else {}
            record = {"weights": row, "recipe": recipe(refs, {"model": row}), "metrics": metrics}
            journal.append({**record, **notes})
    (path / "recipe.json").write_text(json.dumps(recipe(refs, {"model": ROWS[3][0]})))
    return path


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

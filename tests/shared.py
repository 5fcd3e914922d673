"""Helpers that tests of several rooms share; fixtures are in `conftest.py`."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import soupmerge as sm
from soupmerge.soups.judge.trials import Trial
from soupmerge.weights.recipe import Source


def browser() -> str | None:
    """Return the Chromium of this machine, if there is one, and playwright to drive it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return found if importlib.util.find_spec("playwright") else None


def near(base: nn.Module, seed: int, scale: float = 0.05) -> dict[str, torch.Tensor]:
    """Return the weights of *base*, moved a little: what fine-tuning would do to them."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in base.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            state[name] = tensor + scale * noise * (tensor.abs().mean() + 0.1)
            if name.endswith("running_var"):
                state[name] = state[name].abs() + 0.1
        else:
            state[name] = tensor + seed
    return state


@dataclass
class Outcome:
    status: int
    out: str
    err: str


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and not f.name.startswith(".")
    }


class Stop(BaseException):
    """A kill, from inside."""


def stop_at(n: int, what: str) -> Any:
    seen = [0]

    def progress(kind: str, done: int, total: int, note: str = "") -> None:
        seen[0] += kind == what
        if seen[0] == n:
            raise Stop

    return progress


def trial(clean: int, robust: int) -> Any:
    flags = {"clean": torch.arange(10) < clean, "linf:0.1": torch.arange(10) < robust}
    recipe = sm.Recipe((Source("a", ""), Source("b", "")), ("model",), ((0.5, 0.5),))
    report = sm.Report({}, flags, {"linf:0.1": {"attack": "apgd-ce", "steps": 1}})
    return Trial(recipe, report)


def in_float64(ingredients: sm.Ingredients, home: Path) -> sm.Ingredients:
    home.mkdir()
    for i, ingredient in enumerate(ingredients):
        wide = {n: t.double() if t.is_floating_point() else t for n, t in ingredient.items()}
        sm.save(home / f"{i}.safetensors", wide)
    return sm.load(*(home / f"{i}.safetensors" for i in range(len(ingredients))))


def in_folder(run: sm.Run | None, out: Path) -> sm.Run:
    """Return *run* in the folder *out*, unless it names another; None keeps nothing on disk."""
    if run is None:
        return sm.Run()
    return run if run.out else replace(run, out=out)

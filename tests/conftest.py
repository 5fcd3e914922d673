"""What the tests share: small networks near one base, embedded data, a way to type commands."""

from __future__ import annotations

import gc
import os
import warnings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded: a process a core, a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

import soupmerge as sm
from soupmerge.cli import main
from tests.shared import Outcome, browser, near

settings.register_profile("soupmerge", deadline=None, max_examples=40)
settings.load_profile("soupmerge")

REAL = "SOUPMERGE_CIFAR10_FOLDER"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {
        "browser": (browser() is None, "needs Chromium, and the package playwright to drive it"),
        "gpu": (not torch.cuda.is_available(), "needs a CUDA device"),
        "real": (REAL not in os.environ, f"needs real images: set {REAL}"),
    }
    for item in items:
        for mark, (missing, reason) in reasons.items():
            if item.get_closest_marker(mark) and missing:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage, now or later: what is loaded here stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def net() -> nn.Module:
    return sm.model("digits-cnn?width=4")


@pytest.fixture
def ingredients(net: nn.Module, tmp_path: Path) -> sm.Ingredients:
    """Three batch-norm networks around one base, written as files that name their network."""
    paths = []
    for seed, name in enumerate(("a", "b", "c"), start=1):
        paths.append(tmp_path / f"{name}.safetensors")
        sm.save(paths[-1], near(net, seed), model="digits-cnn?width=4")
    return sm.load(*paths)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network trained on digits and two fine-tunes of it, which share a basin."""
    home = tmp_path_factory.mktemp("trained")
    train = sm.data("digits", split="train")
    schedule = sm.Schedule(epochs=8, lr=0.1, augment="none")
    base = home / "base.safetensors"
    sm.finetune(
        sm.model("digits-cnn?width=8"), train, sm.against(sm.Linf(0.1)), base, schedule=schedule
    )
    schedule = sm.Schedule(epochs=4, lr=0.05, augment="none")
    paths = []
    for name, threat in (("linf", sm.Linf(0.15)), ("l2", sm.L2(1.0)), ("clean", None)):
        paths.append(home / f"{name}.safetensors")
        ingredient = sm.load(base)[0]
        net = sm.model(like=ingredient)
        sm.finetune(net, train, sm.against(threat), paths[-1], base=ingredient, schedule=schedule)
    return paths


@pytest.fixture
def soupmerge(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Type a command; see its exit status, standard output and standard error.

    Warnings go to standard error, as they do where the command is a process of its own.
    """

    def typed(*words: object) -> Outcome:
        capfd.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = main._warn
            status = main.run([str(word) for word in words])
        caught = capfd.readouterr()
        return Outcome(status, caught.out, caught.err)

    return typed


@pytest.fixture(scope="session")
def digits() -> sm.Images:
    return sm.data("digits", split="train", limit=256)


@pytest.fixture(scope="session")
def chooser() -> sm.Benchmark:
    images = sm.data("digits", split="val", limit=50)
    return sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=5)], name="val")


@pytest.fixture
def kitchen(trained: list[Path]) -> tuple[nn.Module, sm.Ingredients]:
    ingredients = sm.load(*trained)
    return sm.model(like=ingredients), ingredients

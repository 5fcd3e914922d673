"""What benchmarks of fronts work from: ingredients, images, a threat, and a length."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import soupmerge as sm


@dataclass(frozen=True)
class Bench:
    """Ingredients, images, threat and length, from which both sides work."""

    files: tuple[str, ...]
    train: sm.Images
    choose: sm.Images
    test: sm.Images
    threat: sm.Threat
    taught: sm.Threat
    steps: int
    settings: sm.Settings
    device: str
    seed: int
    grid: Path

    @cached_property
    def ingredients(self) -> sm.Ingredients:
        return sm.load(*self.files)

    @cached_property
    def net(self) -> Any:
        return sm.model(like=self.ingredients)

    @property
    def metrics(self) -> tuple[str, str]:
        return "clean", str(self.threat)

    def goals(self) -> list[sm.Adversarial]:
        return [sm.clean(), sm.against(self.taught)]

    def benchmark(self, images: sm.Images, name: str, steps: int) -> sm.Benchmark:
        batch = 1024 if self.device == "cuda" else 256
        attack = sm.APGD(self.threat, steps=steps)
        return sm.Benchmark(images, [attack], name=name, batch_size=batch)

    def learned(self, benchmark: sm.Benchmark, run: sm.Run, **options: Any) -> sm.LearnedFront:
        return sm.front(
            *(self.net, self.ingredients, self.train, self.goals()),
            benchmark=benchmark,
            seed=self.seed,
            run=run,
            **{"settings": self.settings, **options},
        )


class Stopwatch:
    """A progress callback that notes when a stage of the work ends."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.ended: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        if done == total:
            self.ended.setdefault(what, time.perf_counter() - self.began)


def point(trial: sm.Trial, metrics: Sequence[str]) -> list[float]:
    return [trial.judged().accuracy(metric) for metric in metrics]


def bench_of(given: argparse.Namespace, files: Sequence[str], seed: int, grid: Path) -> Bench:
    limits = given.limits or (None, None, None)
    splits = (given.train, given.choose, "test")
    train, choose, test = (
        sm.data(given.data, split=s, limit=n) for s, n in zip(splits, limits, strict=True)
    )
    threat = given.threat or sm.Linf(0.15 if given.data == "digits" else 8 / 255)
    settings = sm.Settings(epochs=given.epochs, batch_size=given.batch_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Bench(
        files=tuple(files),
        train=train,
        choose=choose,
        test=test,
        threat=threat,
        taught=given.taught or threat,
        steps=given.steps,
        settings=settings,
        device=device,
        seed=seed,
        grid=grid,
    )


def trained(home: Path) -> dict[str, str]:
    """Train three networks of digits from one base, and return them as a family."""
    train = sm.data("digits", split="train")
    paths = {n: home / f"{n}.safetensors" for n in ("base", "linf", "l2", "clean")}
    plan = sm.Schedule(epochs=20, lr=0.1, augment="none")
    goals = {"linf": sm.against(sm.Linf(0.15)), "l2": sm.against(sm.L2(1.0)), "clean": sm.clean()}
    if not paths["base"].exists():
        net = sm.model("digits-cnn", seed=0)
        sm.finetune(net, train, sm.against(sm.Linf(0.1)), paths["base"], schedule=plan)
        base = sm.load(paths["base"])[0]
        for name, goal in goals.items():
            schedule = replace(plan, lr=0.05, epochs=15)
            sm.finetune(net, train, goal, paths[name], base=base, schedule=schedule)
    return {"digits": ",".join(str(paths[name]) for name in goals)}

"""Run folders of every kind, written by the package itself, with verdicts that are planted.

The head's bias of ingredient k is the k-th unit vector, so that the bias of a soup is its row of
coefficients; `Planted` reads it and answers by a rule, without any attack.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

import soupmerge as sm
from soupmerge.choices import ORIGINS
from soupmerge.figures.reading import RunRecord, read_run
from soupmerge.soups.geometry.barriers import Barrier, Barriers
from soupmerge.soups.geometry.landscape import Point
from soupmerge.soups.judge.comparison import compare
from soupmerge.soups.judge.entries import EnsembleEntry, Entry
from soupmerge.storage import commit, run_folder
from soupmerge.weights.saving import mix_to_file

MODEL = "digits-cnn?width=1"
N = 40
STRENGTHS = {"clean": (36, 22, 29, 25), "linf:0.1": (9, 26, 14, 18), "l2:0.5": (11, 15, 24, 20)}
"""Metric → images of 40 that each ingredient gets right."""

BONUS = {"clean": 6, "linf:0.1": 12, "l2:0.5": 8}
"""Images more that a soup gets right, in proportion to 1 − Σ w²."""


def right(weights: Sequence[float], metric: str) -> int:
    """Return how many images the soup of *weights* gets right by *metric*."""
    mean = sum(w * s for w, s in zip(weights, STRENGTHS[metric], strict=False))
    return round(mean + BONUS[metric] * (1 - sum(w * w for w in weights)))


@dataclass(frozen=True)
class Planted(sm.Benchmark):
    """Judges by the rule above; the same images are right whoever asks, and however many."""

    def __call__(self, classifier: Any, **keywords: Any) -> sm.Report:
        biases = [p for n, p in classifier.named_parameters() if n.endswith("head.bias")]
        weights = torch.stack(biases).mean(0)[: len(STRENGTHS["clean"])].tolist()
        ids = torch.tensor([int(id) for id in self.data.ids])
        clean = ids < right(weights, "clean")
        flags = {"clean": clean}
        for attack in self.attacks:
            threat = str(attack.threat)
            order = ids if threat.startswith("linf") else (ids * 7) % N
            flags[threat] = clean & (order < right(weights, threat))
        return sm.Report(self.data.fingerprint(), flags, self._attacks())


def judge(*, threats: bool = True) -> Planted:
    x = torch.linspace(0, 1, N * 64).reshape(N, 1, 8, 8)
    images = sm.Images.of(x, torch.arange(N) % 10, ref="planted")
    attacks = [sm.APGD(sm.Linf(0.1), steps=5), sm.APGD(sm.L2(0.5), steps=7)] if threats else []
    return Planted(images, attacks)


def best_of(trials: Sequence[Any], metric: str) -> Any:
    """Return the first of the highest *metric*, and of those in all metrics together."""

    def merit(trial: Any) -> tuple[int, int]:
        right = [trial.report.correct(m) for m in trial.report.metrics]
        return trial.report.correct(metric), sum(right)

    return max(trials, key=merit)


def points_of(reports: Any, metric: str) -> list[tuple[float, float]]:
    return [(round(r.accuracy("clean"), 9), round(r.accuracy(metric), 9)) for r in reports]


def make_ingredients(home: Path, names: Sequence[str]) -> sm.Ingredients:
    """Return ingredients, written to *home*, which are the unit vectors of `Planted`."""
    home.mkdir(parents=True, exist_ok=True)
    state, paths = sm.model(MODEL).state_dict(), []
    for k, name in enumerate(names):
        paths.append(home / f"{name}.safetensors")
        if not paths[-1].exists():
            bias = torch.eye(10)[k]
            noise = 0.01 * torch.randn(16, generator=torch.Generator().manual_seed(k))
            own = {
                **state,
                "head.bias": bias,
                "head.weight": state["head.weight"] + noise[:10, None],
            }
            sm.save(paths[-1], own, model=MODEL, notes={"training": {"base": None}})
    return sm.load(*paths)


NAMES = ("apple", "berry", "cherry", "date")
PAIR = NAMES[:2]
THREE = NAMES[:3]


@dataclass
class Runs:
    """A run of each kind below *home*, made when it is first asked for."""

    home: Path

    def ingredients(self, names: Sequence[str] = THREE) -> sm.Ingredients:
        return make_ingredients(self.home / "ingredients", names)

    @cached_property
    def net(self) -> nn.Module:
        return sm.model(MODEL)

    @cached_property
    def few(self) -> sm.Images:
        return sm.data("digits", split="train", limit=8)

    def grid(
        self, name: str, names: Sequence[str] = THREE, **options: Any
    ) -> tuple[RunRecord, sm.Trials]:
        out = self.home / name
        trials = sm.grid(
            self.net,
            self.ingredients(names),
            options.pop("judge", judge()),
            run=sm.Run(out),
            **options,
        )
        return read_run(out), trials

    def written(self, name: str, rows: Sequence[tuple[list[float], int, int]]) -> RunRecord:
        """Return a run whose soups get so many of ten images right, clean and under a threat."""
        inputs = self.ingredients(NAMES[: len(rows[0][0])]).fingerprint()
        with run_folder.opened(self.home / name, {"command": "grid", "inputs": inputs}) as folder:
            for weights, *counts in rows:
                counted = zip(("clean", "linf:0.1"), counts, strict=True)
                metrics = {m: {"accuracy": c / 10, "correct": c, "n": 10} for m, c in counted}
                metrics = {m: {**measured, "ci95": [0, 1]} for m, measured in metrics.items()}
                folder.journal("trials.jsonl").append({"weights": weights, "metrics": metrics})
        return read_run(self.home / name)

    @cached_property
    def lattice(self) -> tuple[RunRecord, sm.Trials]:
        return self.grid("lattice")

    @cached_property
    def pair(self) -> tuple[RunRecord, sm.Trials]:
        return self.grid("pair", PAIR)

    @cached_property
    def race(self) -> tuple[RunRecord, sm.Trials]:
        out = self.home / "race"
        found = sm.race(self.net, self.ingredients(), judge(), step=0.25, run=sm.Run(out))
        return read_run(out), found.trials

    @cached_property
    def greedy(self) -> tuple[RunRecord, sm.Trials]:
        out = self.home / "greedy"
        found = sm.greedy(self.net, self.ingredients(NAMES), judge(), run=sm.Run(out))
        return read_run(out), found.trials

    @cached_property
    def path(self) -> tuple[RunRecord, sm.Trials]:
        out = self.home / "path"
        found = sm.path(self.net, self.ingredients(PAIR), judge(), points=9, run=sm.Run(out))
        return read_run(out), found.trials

    @cached_property
    def beyond(self) -> tuple[RunRecord, sm.Trials]:
        out, options = self.home / "beyond", {"beyond": 0.25, "buffers": sm.Buffers("base")}
        found = sm.path(
            self.net, self.ingredients(PAIR), judge(), points=5, run=sm.Run(out), **options
        )
        return read_run(out), found.trials

    @cached_property
    def search(self) -> tuple[RunRecord, sm.Trials]:
        out = self.home / "search"
        found = sm.search(self.net, self.ingredients(NAMES), judge(), n=12, run=sm.Run(out))
        return read_run(out), found

    @cached_property
    def learn(self) -> tuple[RunRecord, Any]:
        out, held_out = self.home / "learn", sm.data("digits", split="val", limit=8)
        options: Any = {"epochs": 3, "stop_on": held_out, "benchmark": judge(), "run": sm.Run(out)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the files do not say what they have seen
            trial = sm.learn(self.net, self.ingredients(), self.few, sm.against(None), **options)
        return read_run(out), trial

    @cached_property
    def sweep(self) -> tuple[RunRecord, Any]:
        ingredients = self.ingredients()
        rows = {"uniform": [1 / 3] * 3, "grid-clean": [0.9, 0.1, 0], "grid-union": [0.2, 0.4, 0.4]}
        beside = {name: sm.Recipe.of(ingredients, row) for name, row in rows.items()}
        goals = {"linf-0": sm.against(None), "linf-2-255": sm.against(None, smoothing=0.1)}
        options: Any = {"seeds": (3, 5), "benchmark": judge(), "beside": beside, "epochs": 1}
        random = {"optimiser": "sgd", "lr": 20.0, "init": "xavier", "dropout": 0.0}
        options |= {"settings": sm.Settings(by="model", **random)}
        found = sm.sweep(
            self.net, ingredients, self.few, goals, run=sm.Run(self.home / "sweep"), **options
        )
        return read_run(self.home / "sweep"), found

    @cached_property
    def front(self) -> tuple[RunRecord, sm.LearnedFront]:
        """A front of two objectives, judged at six points, with two soups of a grid beside it."""
        rows = {"grid-clean": [0.9, 0.1, 0], "grid-union": [0.2, 0.4, 0.4]}
        beside = {
            name: sm.Recipe.of(self.ingredients(), row, origin="grid") for name, row in rows.items()
        }
        return self.learned_front("front", FIRST_GOALS, family="softmax-curved", beside=beside)

    @cached_property
    def front_of_three(self) -> tuple[RunRecord, sm.LearnedFront]:
        return self.learned_front("front of three", [*FIRST_GOALS, sm.against(sm.L2(0.5))])

    def learned_front(
        self, name: str, goals: Sequence[Any], *, family: str = "softmax-linear", **options: Any
    ) -> tuple[RunRecord, sm.LearnedFront]:
        settings = sm.Settings(epochs=3, batch_size=2, lr=0.5, family=family)
        options = {"benchmark": judge(), "points": 6, "settings": settings, **options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the files do not say what they have seen
            found = sm.front(
                self.net,
                self.ingredients(),
                self.few,
                goals,
                run=sm.Run(self.home / name),
                **options,
            )
        return read_run(self.home / name), found

    @cached_property
    def adapt(self) -> tuple[RunRecord, Any]:
        sets = [sm.data(f"{kind}digits", limit=20) for kind in ("", "blur-2:", "noise-3:")]
        out = self.home / "adapt"
        found = sm.adapt(self.net, self.ingredients(), sets, shots=5, step=0.5, run=sm.Run(out))
        rows = []
        for i, row in enumerate(found.rows):  # nobody was trained: let them differ
            counts = [(5 + 4 * i + 3 * s) % 15 for s in range(len(sets))]
            flags = [{"clean": torch.arange(15) < count} for count in counts]
            pairs = zip(row.reports, flags, strict=True)
            reports = tuple(replace(report, flags=own) for report, own in pairs)
            rows.append(replace(row, reports=reports))
        found = replace(found, rows=tuple(rows))
        commit.write_json(out / "adapted.json", found.summary(), force=True)
        return read_run(out), found

    @cached_property
    def finetune(self) -> tuple[RunRecord, None]:
        schedule = sm.Schedule(epochs=3, augment="none")
        sm.finetune(
            self.net, self.few, sm.against(None), self.home / "f.pt.safetensors", schedule=schedule
        )
        return read_run(self.home / "f.pt.run"), None

    @cached_property
    def judged(self) -> tuple[RunRecord, list[sm.Report]]:
        """Networks of every making: trained, from elsewhere, an ensemble, soups of all origins."""
        return self.comparison("judged", judge())

    @cached_property
    def clean(self) -> tuple[RunRecord, list[sm.Report]]:
        return self.comparison("clean", judge(threats=False))

    def comparison(self, name: str, benchmark: Planted) -> tuple[RunRecord, list[sm.Report]]:
        ingredients = self.ingredients()
        found = [*ingredients, *(self.made_by(origin) for origin in MADE)]
        entries: list[Any] = [Entry(checkpoint, self.net) for checkpoint in found]
        entries.append(EnsembleEntry(tuple(entries[:2]), "prob"))
        reports = compare(entries, benchmark, run=sm.Run(self.home / name))
        return read_run(self.home / name), reports

    def made_by(self, name: str) -> sm.Checkpoint:
        """Return the soup that is called *name*, made as its first word says."""
        path, ingredients = self.home / f"{name}.safetensors", self.ingredients()
        origin = name.partition("-")[0]
        if not path.exists() and origin in ORIGINS:
            recipe = sm.Recipe.of(ingredients, MADE[name], origin=origin)
            mix_to_file(path, ingredients, recipe, model=MODEL)
        elif not path.exists():
            state = sm.mix(ingredients, sm.Recipe.of(ingredients, MADE[name]))
            notes = {} if origin == "elsewhere" else {"recipe": {"origin": origin}}
            sm.save(path, state, model=MODEL, notes=notes)
        return sm.load(path)[0]

    @cached_property
    def landscape(self) -> tuple[RunRecord, list[Point]]:
        return self.plane("landscape")

    def plane(self, name: str, names: Sequence[str] = THREE) -> tuple[RunRecord, list[Point]]:
        """Return a plane of 3 × 3 points, the loss of each another; one is a hole."""
        ingredients, out = self.ingredients(names), self.home / name
        points = [_point(x, y, 10 + i) for i, (x, y) in enumerate(PLACES)]
        points[5] = Point(points[5].x, points[5].y, points[5].weights, {}, {}, "no finite loss")
        settings = {"points": 3, "margin": 0.25}
        manifest = {
            "command": "landscape",
            "inputs": ingredients.fingerprint(),
            "settings": settings,
        }
        with run_folder.opened(out, {**manifest, "benchmark": judge().describe()}) as folder:
            for point in points:
                folder.journal("trials.jsonl").append(point.to_record())
        return read_run(out), points

    @cached_property
    def check(self) -> tuple[RunRecord, Barriers]:
        return self.segments("check")

    def segments(self, name: str, names: Sequence[str] = THREE) -> tuple[RunRecord, Barriers]:
        """Return the barriers of three pairs, clean and under a threat; the second is highest."""
        ingredients, out = self.ingredients(names), self.home / name
        pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
        found = Barriers(
            tuple(
                _barrier(pair, metric, height)
                for pair, height in zip(pairs, (0.02, 0.2, 0.1), strict=True)
                for metric in ("clean", "linf:0.1")
            )
        )
        with run_folder.opened(
            out, {"command": "check", "inputs": ingredients.fingerprint()}
        ) as folder:
            commit.write_json(folder.file("barriers.json"), found.to_json())
        return read_run(out), found


FIRST_GOALS = (sm.clean(), sm.against(sm.Linf(0.1)))

MADE: Mapping[str, list[float]] = {
    "mix": [1 / 3] * 3,
    "grid-clean": [0.8, 0.2, 0],
    "grid-union": [0.2, 0.4, 0.4],
    "grid-poor": [0, 0.9, 0.1],
    "greedy": [0.5, 0.5, 0],
    "path": [0.7, 0, 0.3],
    "search": [0.3, 0.5, 0.2],
    "adapt": [0.6, 0.1, 0.3],
    "learn-low": [0.65, 0.2, 0.15],
    "learn-high": [0.35, 0.3, 0.35],
    "front-low": [0.55, 0.25, 0.2],
    "front-high": [0.25, 0.35, 0.4],
    "elsewhere": [0.1, 0.2, 0.7],
    "annealing": [0.1, 0.8, 0.1],
}
"""Name of a judged network, after what made it → coefficients; the last is of a newer soupmerge."""

CORNERS = ((0.0, 0.0), (2.0, 0.0), (0.5, 1.0))
PLACES = (*CORNERS, *((x, y) for y in (-0.25, 0.5, 1.25) for x in (-0.5, 1.0, 2.5)))


def _point(x: float, y: float, i: int) -> Point:
    metrics = {"clean": 1.0, "linf:0.1": 3.0}
    loss = {metric: scale * i / 10 for metric, scale in metrics.items()}
    accuracy = {metric: 1 - scale * i / 100 for metric, scale in metrics.items()}
    return Point(x, y, (1 - x / 2, x / 2 - y, y), loss, accuracy)


def _barrier(pair: tuple[str, str], metric: str, height: float) -> Barrier:
    """Return a barrier between errors of 0.1 and 0.3 (more under attack), highest at a quarter."""
    base = 0.1 if metric == "clean" else 0.4
    t = (0.0, 0.25, 0.5, 0.75, 1.0)
    above = (0.0, height, height / 2, -0.01, 0.0)
    error = tuple(base + 0.2 * s + a for s, a in zip(t, above, strict=True))
    loss = tuple(2 * e for e in error)
    fields = (pair, metric, t, loss, error, height, 0.25, 0.01, height - 0.03, height + 0.03, 0.1)
    return Barrier(*fields, verdict="shared" if height < 0.05 else "separate")

"""soupmerge: merge image-classifier checkpoints, and know what the soup does under attack.

A classifier is a function images → logits. A soup is a matrix of coefficients applied to stacked
weights: θ_soup[g] = Σ_k W[g, k] · θ_k[g]. Names load when first used, so that importing soupmerge
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soupmerge.binding import bind as bind
    from soupmerge.exports.folder import Exported as Exported
    from soupmerge.exports.folder import export as export
    from soupmerge.label_spaces.known import label_space as label_space
    from soupmerge.label_spaces.outputs import Outputs as Outputs
    from soupmerge.label_spaces.space import LabelClass as LabelClass
    from soupmerge.label_spaces.space import LabelSpace as LabelSpace
    from soupmerge.robustness.attacks import APGD as APGD
    from soupmerge.robustness.attacks import FGSM as FGSM
    from soupmerge.robustness.attacks import PGD as PGD
    from soupmerge.robustness.autoattack import AutoAttack as AutoAttack
    from soupmerge.robustness.benchmark import Benchmark as Benchmark
    from soupmerge.robustness.benchmark import evaluate as evaluate
    from soupmerge.robustness.cascade import Cascade as Cascade
    from soupmerge.robustness.doubts import Doubt as Doubt
    from soupmerge.robustness.doubts import doubts as doubts
    from soupmerge.robustness.engine import Patience as Patience
    from soupmerge.robustness.ensembles import Ensemble as Ensemble
    from soupmerge.robustness.objectives import Adversarial as Adversarial
    from soupmerge.robustness.objectives import against as against
    from soupmerge.robustness.objectives import clean as clean
    from soupmerge.robustness.presets import preset as preset
    from soupmerge.robustness.report import Report as Report
    from soupmerge.robustness.threats import L1 as L1
    from soupmerge.robustness.threats import L2 as L2
    from soupmerge.robustness.threats import Linf as Linf
    from soupmerge.robustness.threats import Threat as Threat
    from soupmerge.run import Run as Run
    from soupmerge.soups.geometry.barriers import Barrier as Barrier
    from soupmerge.soups.geometry.barriers import Barriers as Barriers
    from soupmerge.soups.geometry.basin import barrier as barrier
    from soupmerge.soups.geometry.landscape import Landscape as Landscape
    from soupmerge.soups.geometry.landscape import Point as Point
    from soupmerge.soups.geometry.landscape import landscape as landscape
    from soupmerge.soups.judge.comparison import compare as compare
    from soupmerge.soups.judge.corruption_errors import CorruptionErrors as CorruptionErrors
    from soupmerge.soups.judge.corruption_errors import corruption_errors as corruption_errors
    from soupmerge.soups.judge.entries import EnsembleEntry as EnsembleEntry
    from soupmerge.soups.judge.entries import Entry as Entry
    from soupmerge.soups.judge.hypervolume import HypervolumeGap as HypervolumeGap
    from soupmerge.soups.judge.hypervolume import compare_hypervolumes as compare_hypervolumes
    from soupmerge.soups.judge.metrics import Gap as Gap
    from soupmerge.soups.judge.trials import Trial as Trial
    from soupmerge.soups.judge.trials import Trials as Trials
    from soupmerge.soups.learn.front import LearnedFront as LearnedFront
    from soupmerge.soups.learn.front import front as front
    from soupmerge.soups.learn.run import learn as learn
    from soupmerge.soups.learn.settings import Settings as Settings
    from soupmerge.soups.learn.sweep import Sweep as Sweep
    from soupmerge.soups.learn.sweep import sweep as sweep
    from soupmerge.soups.recalibration import Calibration as Calibration
    from soupmerge.soups.recalibration import recalibrate as recalibrate
    from soupmerge.soups.search.adapt import adapt as adapt
    from soupmerge.soups.search.adaptation import Adaptation as Adaptation
    from soupmerge.soups.search.greedy import Decision as Decision
    from soupmerge.soups.search.greedy import Greedy as Greedy
    from soupmerge.soups.search.greedy import greedy as greedy
    from soupmerge.soups.search.grid import grid as grid
    from soupmerge.soups.search.path import Line as Line
    from soupmerge.soups.search.path import path as path
    from soupmerge.soups.search.race import Race as Race
    from soupmerge.soups.search.race import Runner as Runner
    from soupmerge.soups.search.race import race as race
    from soupmerge.soups.search.refine import refine as refine
    from soupmerge.soups.search.simplex import search as search
    from soupmerge.sources.images.image_set import Images as Images
    from soupmerge.sources.images.pixels import Pixels as Pixels
    from soupmerge.sources.images.preprocessing import Preprocessing as Preprocessing
    from soupmerge.sources.images.reading import data as data
    from soupmerge.sources.images.resizing import Resized as Resized
    from soupmerge.sources.images.summary import Summary as Summary
    from soupmerge.sources.images.summary import summarise as summarise
    from soupmerge.sources.models import model as model
    from soupmerge.sources.refs import load as load
    from soupmerge.training.finetuning import finetune as finetune
    from soupmerge.training.schedules import Schedule as Schedule
    from soupmerge.types import Attack as Attack
    from soupmerge.types import Classifier as Classifier
    from soupmerge.types import Examples as Examples
    from soupmerge.types import Objective as Objective
    from soupmerge.types import Progress as Progress
    from soupmerge.types import ThreatModel as ThreatModel
    from soupmerge.weights.buffers import Buffers as Buffers
    from soupmerge.weights.files import Checkpoint as Checkpoint
    from soupmerge.weights.front import Front as Front
    from soupmerge.weights.ingredients import Ingredients as Ingredients
    from soupmerge.weights.mixing import mix as mix
    from soupmerge.weights.plane import Plane as Plane
    from soupmerge.weights.recipe import Recipe as Recipe
    from soupmerge.weights.recipe import Source as Source
    from soupmerge.weights.recipe_files import read_front as read_front
    from soupmerge.weights.saving import save as save
    from soupmerge.weights.selection import Selection as Selection

__version__ = "0.1.0"

_HOMES = {
    "APGD": "robustness.attacks",
    "Adaptation": "soups.search.adaptation",
    "Adversarial": "robustness.objectives",
    "Attack": "types",
    "AutoAttack": "robustness.autoattack",
    "Barrier": "soups.geometry.barriers",
    "Barriers": "soups.geometry.barriers",
    "Benchmark": "robustness.benchmark",
    "Buffers": "weights.buffers",
    "Calibration": "soups.recalibration",
    "Cascade": "robustness.cascade",
    "Checkpoint": "weights.files",
    "Classifier": "types",
    "CorruptionErrors": "soups.judge.corruption_errors",
    "Decision": "soups.search.greedy",
    "Doubt": "robustness.doubts",
    "Ensemble": "robustness.ensembles",
    "EnsembleEntry": "soups.judge.entries",
    "Entry": "soups.judge.entries",
    "Examples": "types",
    "Exported": "exports.folder",
    "FGSM": "robustness.attacks",
    "Front": "weights.front",
    "Gap": "soups.judge.metrics",
    "Greedy": "soups.search.greedy",
    "HypervolumeGap": "soups.judge.hypervolume",
    "Images": "sources.images.image_set",
    "Ingredients": "weights.ingredients",
    "L1": "robustness.threats",
    "L2": "robustness.threats",
    "LabelClass": "label_spaces.space",
    "LabelSpace": "label_spaces.space",
    "Landscape": "soups.geometry.landscape",
    "LearnedFront": "soups.learn.front",
    "Line": "soups.search.path",
    "Linf": "robustness.threats",
    "Objective": "types",
    "Outputs": "label_spaces.outputs",
    "PGD": "robustness.attacks",
    "Patience": "robustness.engine",
    "Pixels": "sources.images.pixels",
    "Plane": "weights.plane",
    "Point": "soups.geometry.landscape",
    "Preprocessing": "sources.images.preprocessing",
    "Progress": "types",
    "Race": "soups.search.race",
    "Recipe": "weights.recipe",
    "Report": "robustness.report",
    "Resized": "sources.images.resizing",
    "Run": "run",
    "Runner": "soups.search.race",
    "Schedule": "training.schedules",
    "Selection": "weights.selection",
    "Settings": "soups.learn.settings",
    "Source": "weights.recipe",
    "Summary": "sources.images.summary",
    "Sweep": "soups.learn.sweep",
    "Threat": "robustness.threats",
    "ThreatModel": "types",
    "Trial": "soups.judge.trials",
    "Trials": "soups.judge.trials",
    "adapt": "soups.search.adapt",
    "against": "robustness.objectives",
    "barrier": "soups.geometry.basin",
    "bind": "binding",
    "clean": "robustness.objectives",
    "compare": "soups.judge.comparison",
    "compare_hypervolumes": "soups.judge.hypervolume",
    "corruption_errors": "soups.judge.corruption_errors",
    "data": "sources.images.reading",
    "doubts": "robustness.doubts",
    "evaluate": "robustness.benchmark",
    "export": "exports.folder",
    "finetune": "training.finetuning",
    "front": "soups.learn.front",
    "greedy": "soups.search.greedy",
    "grid": "soups.search.grid",
    "label_space": "label_spaces.known",
    "landscape": "soups.geometry.landscape",
    "learn": "soups.learn.run",
    "load": "sources.refs",
    "mix": "weights.mixing",
    "model": "sources.models",
    "path": "soups.search.path",
    "preset": "robustness.presets",
    "race": "soups.search.race",
    "read_front": "weights.recipe_files",
    "recalibrate": "soups.recalibration",
    "refine": "soups.search.refine",
    "save": "weights.saving",
    "search": "soups.search.simplex",
    "summarise": "sources.images.summary",
    "sweep": "soups.learn.sweep",
}

__all__ = list(_HOMES)  # noqa: PLE0605 - one list, not two


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'soupmerge' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"soupmerge.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

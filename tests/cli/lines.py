"""Commands as they are typed, the call that each makes, and what each option changes of it."""

from __future__ import annotations

import soupmerge as sm
from tests.cli.common import (
    DEBUG,
    FEW,
    FORCE,
    KEY,
    LINF,
    MACHINE,
    NETWORK,
    OUT,
    READING,
    SOME,
    WITH_NETWORK,
    Line,
    Options,
    attacks,
    data,
    objective,
    searching,
    selection,
)

COEFFICIENTS: Options = {
    **data("data", "train"),
    "--groups block": {"settings.by": "block"},
    "--epochs 4": {"settings.epochs": 4},
    "--lr 2": {"settings.lr": 2.0},
    "--dropout 0.3": {"settings.dropout": 0.3},
    "--rescale": {"settings.rescale": True},
    "--init uniform": {"settings.init": "uniform"},
    "--batch-norm batch": {"settings.batch_norm": "batch"},
    "--store bf16": {"settings.store": "bf16", "plan.store": "bf16"},
    "--precision bf16": {"settings.precision": "bf16"},
    "--batch-size 5": {"settings.batch_size": 5},
    "--buffers base": {"settings.buffers": "base"},
    "--base 2": {"settings.base": 1},
    **selection("ingredients", "settings.base"),
    "--optimiser sgd": {"settings.optimiser": "sgd"},
    "--as-paper": {
        "settings.optimiser": "sgd",
        "settings.lr": 10.0,
        "settings.dropout": 0.8,
        "settings.init": "xavier",
        "settings.buffers": "base",
    },
    "--augment none": {"augment": None},
    "--ingredients host": {"settings.place": "host", "plan.place": "host"},
    **WITH_NETWORK, **KEY, **MACHINE, **FORCE, **OUT,
    "--device cuda:1": {"device": "cuda:1", "plan.device": "cuda:1"},
}  # fmt: skip
LEARNING: Options = {
    **COEFFICIENTS,
    "--stop-split val": {"stop_on.*": SOME},
    "--stop-split test --patience 3": {"stop_on.*": SOME, "settings.patience": 3},
}
LEARN = f"learn {{a}} {{b}} {FEW} -o run"
LINES: dict[str, Line] = {
    "inspect": Line(
        "inspect {a}",
        ("soupmerge.sources.refs.opened",),
        {
            **KEY,
            **DEBUG,
        },
    ),
    "data": Line(
        "data digits --limit 8",
        ("soupmerge.summarise",),
        {
            "--split train[:99]": {"images.split": "train[:99], 8 of it"},
            "--limit 9": {"images.n": 9, "images.split": "test, 9 of it"},
            "--model digits-cnn?width=2": {"net": NETWORK, "model.ref": NETWORK},
            **READING,
            **DEBUG,
        },
    ),
    "check": Line(
        f"check {{a}} {{b}} {FEW} --threat linf:0.1",
        ("soupmerge.barrier",),
        {
            **data("benchmark.data", "val"),
            "--threat l2:1/2": {
                "benchmark.attacks.len": 2,
                "benchmark.attacks.1": sm.APGD.training(sm.L2(0.5), steps=10),
            },
            "--steps 7": {"benchmark.attacks.0": sm.APGD.training(LINF, steps=7)},
            "--points 5": {"points": 5},
            "--tolerance 0.2": {"tolerance": 0.2},
            "--buffers base": {"buffers": "base"},
            "--batch-size 5": {"benchmark.batch_size": 5},
            "--seed 7": {"benchmark.seed": 7},
            **selection("ingredients"),
            **WITH_NETWORK,
            **KEY,
            **MACHINE,
        },
    ),
    "check -o": Line(
        f"check {{a}} {{b}} {FEW} -o run",
        ("soupmerge.barrier",),
        {
            **OUT,
            **FORCE,
        },
    ),
    "check --origin": Line(
        "check {a} {b} --origin {a}",
        ("soupmerge.weights.geometry.geometry_of",),
        {
            "--origin {c}": {"origin": "{c}"},
        },
    ),
    "convert": Line(
        "convert {a} -o out.safetensors",
        ("soupmerge.weights.saving.save",),
        {
            "-o other.safetensors": {"path": "other.safetensors"},
            **FORCE,
            **KEY,
            **DEBUG,
        },
    ),
    "mix": Line(
        "mix {a} {b} -w 0.25,0.75 -o out.safetensors",
        ("soupmerge.weights.saving.mix_to_file",),
        {
            "-w head=1,0 --groups module": {"recipe.groups": "module", "recipe.weights.*": SOME},
            "--groups block": {"recipe.groups": "block", "recipe.weights.*": SOME},
            "--affine": {"recipe.affine": True},
            "--buffers base": {"recipe.buffers.policy": "base"},
            "--base 2": {"recipe.buffers.base": 1},
            "--dtype float16": {"recipe.dtype": "float16"},
            "--max-shard-size 1KB": {"shard_bytes": 1000},
            "-o other.safetensors": {"path": "other.safetensors"},
            "--exclude head.*": {"ingredients.copied.head.*": 0, "recipe.copied.head.*": 0},
            "--only head.*": {"ingredients.copied.features.*": 0, "recipe.copied.features.*": 0},
            "--head skip": {"ingredients.skipped": 2, "recipe.skipped.*": SOME},
            **KEY,
            **FORCE,
            **DEBUG,
        },
    ),
    "mix -w": Line(
        "mix {a} {b} -w 1,3 --normalize -o out.safetensors",
        ("soupmerge.weights.saving.mix_to_file",),
        {
            "--dtype float64": {"recipe.dtype": "float64"},
        },
    ),
    "mix --recipe": Line(
        "mix --recipe {recipe} -o out.safetensors",
        ("soupmerge.weights.saving.mix_to_file",),
        {
            "-o other.safetensors": {"path": "other.safetensors"},
            **KEY,
        },
    ),
    "mix --buffers recalibrate": Line(
        f"mix {{a}} {{b}} -w 0.25,0.75 --buffers recalibrate {FEW} -o out.safetensors",
        ("soupmerge.recalibrate",),
        {
            **data("calibration.data", "train"),
            "--threat linf:0.1": {"calibration.attack": sm.APGD.training(LINF, steps=10)},
            "--batch-size 5": {"calibration.batch_size": 5},
            "--seed 7": {"calibration.seed": 7},
            **WITH_NETWORK,
            **MACHINE,
        },
    ),
    "mix --export": Line(
        "mix {a} {b} -w 0.25,0.75 -o out.safetensors --export folder",
        ("soupmerge.exports.folder.export",),
        {"--export other": {"folder": "other"}, "--license mit": {"licence": "mit"}},
    ),
    "grid": searching(
        "grid",
        "grid race",
        {},
        {
            "--step 1/4": {"step": "1/4"},
            "--metric clean": {"metric": "clean"},
            "--race": {"call": "race", "goal": "front", "seed": 0},
        },
    ),
    "grid --race": searching(
        "grid --race",
        "race",
        {"seed": 7},
        {
            "--step 1/4": {"step": "1/4"},
            "--metric clean": {"metric": "clean"},
            "--race-best": {"goal": "best"},
        },
    ),
    "greedy": searching(
        "greedy",
        "greedy",
        {"seed": 7},
        {
            "--metric clean": {"metric": "clean"},
            "--orders 3": {"orders": 3},
            "--prune": {"prune": True},
        },
    ),
    "path": searching(
        "path",
        "path",
        {},
        {
            "--points 5": {"points": 5},
            "--beyond 0.5": {"beyond": 0.5},
            "--metric clean": {"metric": "clean"},
        },
    ),
    "search": searching(
        "search",
        "search",
        {"seed": 7},
        {
            "--method cma": {"method": "cma"},
            "-n 9": {"n": 9},
            "--metric clean": {"metric": "clean"},
        },
    ),
    "select": Line(
        "select {grid}",
        ("soupmerge.soups.search.choice.choose",),
        {
            "--metric clean": {"metric": "clean"},
            "--knee": {"metric": None},
            "--x linf:0.1": {"x": "linf:0.1"},
            "--y clean": {"y": "clean"},
            "--where clean>=0.1": {
                "conditions": SOME,
                "conditions.len": 1,
                "conditions.0": "clean>=0.1",
            },
            **DEBUG,
        },
    ),
    "select -o": Line(
        "select {grid} -o out.safetensors",
        ("soupmerge.weights.saving.mix_to_file",),
        {
            "-o other.safetensors": {"path": "other.safetensors"},
            "--ref {a} --ref {copy}": {"ingredients.refs.1": "{copy}"},
            **FORCE,
            **KEY,
        },
    ),
    "select --export": Line(
        "select {grid} -o out.safetensors --export folder",
        ("soupmerge.exports.folder.export",),
        {
            "--export other": {"folder": "other"},
            "--licence mit": {"licence": "mit"},
        },
    ),
    "adapt": Line(
        f"adapt {{a}} {{b}} {FEW} --shots 2 -o run",
        ("soupmerge.adapt",),
        {
            "--data blur-1:digits": {"sets.*": SOME},
            "--column C=blur-1:digits": {"sets.*": SOME},
            "--split val": {"sets.digits.split": "val, 8 of it"},
            "--limit 9": {"sets.digits.n": 9, "sets.digits.split": "test, 9 of it"},
            **READING,
            "--shots 3": {"shots": 3},
            **selection("ingredients", "-"),
            "--step 1/2": {"step": "1/2"},
            "--batch-size 5": {"batch_size": 5},
            "--seed 7": {"seed": 7},
            **WITH_NETWORK,
            **KEY,
            **MACHINE,
            **FORCE,
            **OUT,
        },
    ),
    "learn": Line(
        f"{LEARN} --eps 0.1",
        ("soupmerge.learn", "soupmerge.sweep"),
        {
            **LEARNING,
            **objective("objective"),
            "--eps 0.2": {"objective.attacks.0": sm.APGD.training(sm.Linf(0.2))},
            "--norm l2": {"objective.attacks.0": sm.APGD.training(sm.L2(0.1))},
            "--recalibrate clean": {"calibration.*": SOME},
            "--seed 7": {"seed": 7},
        },
    ),
    "learn --against": Line(
        f"{LEARN} --against linf:0.1",
        ("soupmerge.learn",),
        {
            "--against l2:1/2": {
                "objective.attacks.len": 2,
                "objective.attacks.1": sm.APGD.training(sm.L2(0.5)),
            },
        },
    ),
    "learn --recalibrate": Line(
        f"{LEARN} --eps 0.1 --recalibrate attacked",
        ("soupmerge.learn",),
        {
            "--eps 0.2": {
                "objective.attacks.0": SOME,
                "calibration.attack": sm.APGD.training(sm.Linf(0.2)),
            },
            "--recalibrate clean": {"calibration.attack": None},
            "--batch-size 5": {"settings.batch_size": 5, "calibration.batch_size": 5},
            "--seed 7": {"seed": 7, "calibration.seed": 7},
        },
    ),
    "learn --judge-split": Line(
        f"{LEARN} --eps 0.1 --judge-split val --judge-limit 8 --threat linf:0.1",
        ("soupmerge.learn",),
        {
            **attacks("benchmark"),
            "--judge-split train": {"benchmark.data.split": "train, 8 of it"},
            "--judge-limit 9": {"benchmark.data.n": 9, "benchmark.data.split": "val, 9 of it"},
            "--batch-size 5": {"settings.batch_size": 5, "benchmark.batch_size": 5},
            "--seed 7": {"seed": 7, "benchmark.seed": 7},
        },
    ),
    "learn --eps 0,0.1": Line(
        f"{LEARN} --eps 0,0.1",
        ("soupmerge.sweep",),
        {
            "--eps 0,0.2": {"objectives.linf-0.1.*": None, "objectives.linf-0.2.*": SOME},
            "--trades 0,1/2": {"objectives.*": SOME},
            "--seed 7": {"seeds.0": 7},
            "--seeds 3": {"seeds.len": 3, "seeds.1": 1, "seeds.2": 2},
            "--seeds 2 --seed 7": {"seeds.len": 2, "seeds.0": 7, "seeds.1": 8},
            "--lr 2": {"learning.settings.lr": 2.0},
            **OUT,
            **FORCE,
        },
    ),
    "learn --beside": Line(
        f"{LEARN} --eps 0.1 --judge-split val --judge-limit 8 --threat linf:0.1 --beside {{grid}}",
        ("soupmerge.sweep",),
        {
            "--seeds 2": {"seeds.len": 2, "seeds.1": 1},
        },
    ),
    "learn --export": Line(
        f"{LEARN} --eps 0 --epochs 1 --augment none --export folder",
        ("soupmerge.exports.folder.export",),
        {
            "--export other": {"folder": "other"},
            "--license mit": {"licence": "mit"},
        },
    ),
    "front": Line(
        f"front {{a}} {{b}} {FEW} --objective clean --objective linf:0.1 -o run",
        ("soupmerge.front",),
        {
            **COEFFICIENTS,
            "--objective l2:1/2": {"objectives.len": 3, "objectives.2.*": SOME},
            "--family affine": {"settings.family": "affine"},
            "--scalarisation tchebycheff": {"settings.scalarisation": "tchebycheff"},
            "--corners 0.5": {"settings.corners": 0.5},
            "--preferences 2": {"settings.preferences": 2},
            "--attack-steps 3": {"objectives.1.attacks.0": sm.APGD.training(sm.Linf(0.1), steps=3)},
            "--label-smoothing 0.1": {
                "objectives.0.smoothing": 0.1,
                "objectives.1.smoothing": 0.1,
            },
            "--points 5": {"points": 5},
            "--seed 7": {"seed": 7},
        },
    ),
    "front --judge-split": Line(
        f"front {{a}} {{b}} {FEW} --objective clean --objective linf:0.1 -o run "
        "--judge-split val --judge-limit 8 --threat linf:0.1",
        ("soupmerge.front",),
        {
            **attacks("benchmark"),
            "--judge-split train": {"benchmark.data.split": "train, 8 of it"},
            "--judge-limit 9": {"benchmark.data.n": 9, "benchmark.data.split": "val, 9 of it"},
            "--beside {grid}": {"beside.*": SOME},
        },
    ),
    "select --data": Line(
        f"select {{front}} {FEW} --threat linf:0.1",
        ("soupmerge.refine",),
        {
            **attacks("benchmark"),
            **data("benchmark.data", "val"),
            **WITH_NETWORK,
            **MACHINE,
            "--batch-size 5": {"benchmark.batch_size": 5},
            "--seed 7": {"benchmark.seed": 7},
            "--metric clean": {"metric": "clean"},
            "--knee": {"knee.*": SOME},
            "--where clean>=0.1": {"conditions": SOME, "conditions.*": SOME},
        },
    ),
    "mix --at": Line(
        "mix --recipe {front}/front.json --at 0.25 -o out.safetensors",
        ("soupmerge.weights.saving.mix_to_file",),
        {
            "--at 0.5": {"recipe.weights.*": SOME, "recipe.front.*": SOME},
        },
    ),
    "eval --at": Line(
        f"eval {{front}}/front.json --at 0 {FEW}",
        ("soupmerge.soups.judge.comparison.compare",),
        {
            "--at 0.5,1": {"entries.*": SOME},
        },
    ),
    "export --at": Line(
        "export {front}/front.json --at 0 -o folder",
        ("soupmerge.exports.folder.export",),
        {
            "--at 0.5": {"soup": "{front}/front.json@0.5"},
        },
    ),
    "eval": Line(
        f"eval {{a}} {{b}} {FEW} --threat linf:0.1",
        ("soupmerge.soups.judge.comparison.compare",),
        {
            "--data blur-1:digits": {"benchmarks.len": 2, "benchmarks.1.*": SOME},
            "--column C=blur-1:digits": {"benchmarks.len": 2, "benchmarks.1.*": SOME},
            "--split val": {"benchmarks.0.data.split": "val, 8 of it"},
            "--limit 9": {"benchmarks.0.data.n": 9, "benchmarks.0.data.split": "test, 9 of it"},
            **READING,
            "--resolution 6": {"benchmarks.0.data.resolution": 6, "benchmarks.0.data.resize": SOME},
            **attacks("benchmarks.0"),
            "--ensemble logit": {"entries.*": SOME},
            "--no-doubts": {"examine": False},
            "--compile": {"compiled": True},
            "--batch-size 5": {"benchmarks.0.batch_size": 5},
            "--seed 7": {"benchmarks.0.seed": 7},
            "--model digits-cnn?width=2": {"model.ref": NETWORK},
            "--mean 0.5 --std 0.25": {"model.mean": "0.5", "model.std": "0.25", "entries.*": SOME},
            **KEY,
            **MACHINE,
            **FORCE,
            **OUT,
        },
    ),
    "landscape": Line(
        f"landscape {{a}} {{b}} {{c}} {FEW} --threat linf:0.1 -o run",
        ("soupmerge.landscape",),
        {
            **data("benchmark.data", "test"),
            "--threat l2:1/2": {
                "benchmark.attacks.len": 2,
                "benchmark.attacks.1": sm.APGD.training(sm.L2(0.5), steps=20),
            },
            "--steps 7": {"benchmark.attacks.0": sm.APGD.training(LINF, steps=7)},
            "--points 5": {"points": 5},
            "--margin 0.5": {"margin": 0.5},
            "--buffers base": {"buffers": "base"},
            "--base 2": {"base": 1},
            **selection("ingredients", "base"),
            "--batch-size 5": {"benchmark.batch_size": 5},
            "--seed 7": {"benchmark.seed": 7},
            **WITH_NETWORK,
            **KEY,
            **MACHINE,
            **FORCE,
            **OUT,
        },
    ),
    "landscape --buffers recalibrate": Line(
        f"landscape {{a}} {{b}} {{c}} {FEW} --buffers recalibrate -o run",
        ("soupmerge.landscape",),
        {
            "--calibrate-on val --calibrate-limit 8": {
                "calibration.data.n": 8,
                "calibration.data.split": "val, 8 of it",
            },
            "--calibrate-limit 9": {
                "calibration.data.n": 9,
                "calibration.data.split": "train, 9 of it",
            },
            "--seed 7": {"benchmark.seed": 7, "calibration.seed": 7},
            "--buffers average": {"calibration.*": SOME},
        },
    ),
    "finetune": Line(
        f"finetune {{a}} --threat linf:0.1 {FEW} -o out.safetensors",
        ("soupmerge.finetune",),
        {
            **data("data", "train"),
            "--threat l2:1/2": {
                "objective.attacks.len": 2,
                "objective.attacks.1": sm.APGD.training(sm.L2(0.5)),
            },
            "--epochs 4": {"schedule.epochs": 4},
            "--lr 2": {"schedule.lr": 2.0},
            "--warmup 1.5": {"schedule.warmup": 1.5},
            "--weight-decay 0.1": {"schedule.weight_decay": 0.1},
            "--every 2": {"schedule.every": 2},
            "--augment none": {"schedule.augment": "none"},
            "--precision bf16": {"schedule.precision": "bf16"},
            "--batch-size 5": {"schedule.batch_size": 5},
            "--seed 7": {"seed": 7},
            "-o other.safetensors": {"out": "other.safetensors"},
            **objective("objective"),
            **WITH_NETWORK,
            **KEY,
            **MACHINE,
            **FORCE,
        },
    ),
    "report": Line(
        "report {grid}",
        ("soupmerge.figures.page.writing.write_page",),
        {
            "-o other.html": {"out": "other.html"},
            **FORCE,
            **DEBUG,
        },
    ),
    "report --format": Line(
        "report {grid} -o page.html --format png",
        ("soupmerge.figures.drawing.draw",),
        {
            "--format svg,pdf": {"formats.len": 2, "formats.0": "svg", "formats.1": "pdf"},
        },
    ),
    "export": Line(
        "export {soup} -o folder",
        ("soupmerge.exports.folder.export",),
        {
            "-o other": {"folder": "other"},
            "--judged run": {"judged": "run"},
            "--license mit": {"licence": "mit"},
            "--model digits-cnn?width=2": {"model.ref": NETWORK, "net": SOME},
            "--mean 0.5 --std 0.25": {"model.*": SOME, "net": SOME},
            **DEBUG,
        },
    ),
    "push": Line(
        "push {export} hf-hub:me/soup",
        ("soupmerge.sources.hub.upload.push",),
        {
            "--private": {"private": True},
            **DEBUG,
        },
    ),
    "pull": Line(
        "pull hf-hub:me/soup",
        ("soupmerge.sources.hub.pull", "soupmerge.sources.hub.cached"),
        {
            "--locked": {"locked": True},
            "-q": {"progress.quiet": True},
            "--offline": {
                "call": "cached",
                "offline": True,
                "locked": None,
                "progress.quiet": None,
            },
        },
    ),
    "pull rb:": Line(
        "pull rb:cifar10/Linf/Standard",
        ("soupmerge.sources.robustbench.checkpoints.opened",),
        {
            "-q": {"progress.quiet": True},
            **DEBUG,
        },
    ),
    "pull --list": Line(
        "pull --list rb",
        ("soupmerge.sources.robustbench.zoo.listed",),
        {
            "--list rb:cifar10": {"beginning": "rb:cifar10"},
        },
    ),
    "demo": Line("demo", ("soupmerge.cli.demo.story",), {"-o other": {"folder": "other"}, **DEBUG}),
}

ELSEWHERE = {
    "": {"as_json", "dry_run", "verbose", "debug", "quiet", "help"},
    "eval": {"strict", "beside"},
    "adapt": {"beside"},
    "pull": {"out", "force"},
    "data": {"out", "force", "list_sets"},
}
"""Options that change what is said or how it ends, by command: see ``test_notes``, and for those
of ``--beside`` ``tests/soups/test_columns``."""

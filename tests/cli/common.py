"""Options that several commands share, and what they change of the call that is made."""

from __future__ import annotations

from typing import Any, NamedTuple

import soupmerge as sm

Options = dict[str, dict[str, Any]]


class Anything:
    """Equal to all: what follows from an option, and is of no interest here."""

    def __eq__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "…"


SOME: Any = Anything()


class Line(NamedTuple):
    """A command as it is typed, the calls that are waited for, and what its options change.

    ``{a}``, ``{b}``, ``{c}``, ``{recipe}``, ``{grid}``, ``{export}`` and ``{front}`` stand for what
    is in the larder. A place that ends with ``.*`` is that of several values, whatever they are.
    """

    words: str
    targets: tuple[str, ...]
    options: Options


LINF = sm.Linf(0.1)
FEW = "--data digits --limit 8"
NETWORK = "digits-cnn?width=2"
WITH_NETWORK: Options = {
    "--model digits-cnn?width=2": {"model.ref": NETWORK},
    "--mean 0.5 --std 0.25": {"model.mean": "0.5", "model.std": "0.25", "net": SOME},
}
DEBUG: Options = {"--offline": {"offline": True}}
MACHINE: Options = {
    "--device cuda:1": {"device": "cuda:1"},
    "-j 3": {"threads": 3},
    "-q": {"progress.quiet": True},
    **DEBUG,
}
KEY: Options = {"--weights-key ema": {"weights_key": "ema"}}
FORCE: Options = {"--force": {"force": True}}
OUT: Options = {"-o elsewhere": {"out": "elsewhere"}}


READING: Options = {
    "--classes cifar10": {"reading.classes": "cifar10"},
    "--scan": {"reading.broken": "scan"},
    "--skip-broken": {"reading.broken": "skip"},
    "--fingerprint ids": {"reading.by": "ids"},
}


def data(at: str, split: str) -> Options:
    """Return what the options of a data set change, of which *split* is taken, at *at*."""
    return {
        "--data blur-1:digits": {f"{at}.ref": "blur-1:digits"},
        "--split train[:99]": {f"{at}.split": "train[:99], 8 of it"},
        "--limit 9": {f"{at}.n": 9, f"{at}.split": f"{split}, 9 of it"},
        **READING,
    }


def attacks(at: str, *, brief: bool = False) -> Options:
    """Return what the options of an attack change, at *at*; the line has ``linf:0.1``."""

    def found(name: str, steps: int = 100, threat: sm.Threat = LINF) -> Any:
        attack: Any = sm.preset(name, threat, steps)
        return attack.giving_up() if brief and hasattr(attack, "giving_up") else attack

    first, auto = f"{at}.attacks.0", "--attack autoattack --autoattack-version"
    chosen = sm.AutoAttack(LINF, version="custom", attacks=("apgd-ce", "square"))
    l2 = found("apgd", 100, sm.L2(0.5))
    return {
        "--threat l2:1/2": {f"{at}.attacks.len": 2, f"{at}.attacks.1": l2},
        "--attack pgd": {first: found("pgd")},
        "--attack apgd-t": {first: found("apgd-t")},
        "--steps 7": {first: found("apgd", 7)},
        "--attack-precision bf16": {f"{at}.precision": "bf16"},
        "--only-union": {f"{at}.only_union": True},
        f"{auto} rand": {first: sm.AutoAttack(LINF, version="rand")},
        f"{auto} custom --autoattack-attacks apgd-ce,square": {first: chosen},
    }


def objective(at: str) -> Options:
    """Return what the options of an objective change, at *at*; the line has ``linf:0.1``."""
    return {
        "--trades 0.5": {f"{at}.alpha": 0.5},
        "--trades-kl 3": {f"{at}.form": "trades-kl", f"{at}.beta": 3.0},
        "--mart 4": {f"{at}.form": "mart", f"{at}.beta": 4.0},
        "--label-smoothing 0.1": {f"{at}.smoothing": 0.1},
        "--attack-steps 5": {f"{at}.attacks.0": sm.APGD.training(LINF, steps=5)},
    }


HEAD = ("head.weight", "head.bias")


def selection(at: str, base: str = "") -> Options:
    """Return what the options that leave tensors out change of the ingredients at *at*.

    The base ingredient is at *base*, too; "-" if it is always the first.
    """
    second = {f"{at}.copied.{name}": 1 for name in HEAD} | ({base: 1} if base else {})
    return {
        "--exclude head.*": {f"{at}.copied.{name}": 0 for name in HEAD},
        **({} if base == "-" else {"--exclude head.* --base 2": second}),
        "--only head.*": {f"{at}.copied.features.*": 0},
        "--head first": {f"{at}.copied.{name}": 0 for name in HEAD},
        "--head skip": {f"{at}.skipped": 2},
    }


def searching(words: str, calls: str, seeds: dict[str, Any], options: Options) -> Line:
    """Return the line of a search, with the options that all of them have."""
    common: Options = {
        **data("benchmark.data", "val"),
        **attacks("benchmark", brief=True),
        "--thorough": {"benchmark.attacks.0": sm.APGD(LINF)},
        "--transfer": {"benchmark.transfer": True},
        "--buffers base": {"buffers": "base"},
        "--base 2": {"base": 1},
        "--batch-size 5": {"benchmark.batch_size": 5},
        "--seed 7": {"benchmark.seed": 7, **seeds},
        **selection("ingredients", "base"),
    }
    common |= WITH_NETWORK | KEY | MACHINE | FORCE | OUT
    line = f"{words} {{a}} {{b}} {FEW} --threat linf:0.1 -o run"
    targets = tuple(f"soupmerge.{call}" for call in calls.split())
    return Line(line, targets, common | options)

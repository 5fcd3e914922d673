"""What the options of a command mean: threats and attacks, ingredients, images, a device."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.errors import UsageError


def attacks(given: dict[str, Any]) -> list[Any]:
    """Return the attacks that the options *given* describe, one for each threat."""
    listed = given["autoattack_attacks"]
    if listed and given["attack"] != "autoattack":
        fix = "give --attack autoattack --autoattack-version custom"
        raise UsageError("they would not be run", where="--autoattack-attacks", fix=fix)
    chosen = tuple(word.strip() for word in listed.split(",")) if listed else ()
    if given["attack"] == "autoattack":
        how = {"version": given["autoattack_version"], "attacks": chosen, "seed": given["seed"]}
        return [sm.AutoAttack(threat, **how) for threat in given["threats"]]
    return [sm.preset(given["attack"], threat, given["steps"]) for threat in given["threats"]]


def images_of(given: dict[str, Any], split: str, limit: int | None = None) -> sm.Images:
    """Return the images that the options *given* name, and say what their labels stand for."""
    found = sm.data(given["data_ref"], split=split, limit=limit)
    tell_classes(found)
    return found


def tell_classes(images: sm.Images) -> None:
    """Say once in which order the classes of *images* are, where they have names."""
    from soupmerge.weights.classes import listed

    said = click.get_current_context().meta.setdefault("soupmerge.classes", set())
    if images.class_names and images.class_names not in said:
        said.add(images.class_names)
        show.note(f"{images.ref}: classes in order: {listed(images.class_names)}")


def benchmark(given: dict[str, Any], name: str, split: str | None = None) -> sm.Benchmark:
    """Return the benchmark that the options *given* describe, to judge or choose as *name* says."""
    return sm.Benchmark(
        images_of(given, split or given["split"], given["limit"]),
        attacks(given),
        name=name,
        seed=given["seed"],
        batch_size=given["batch_size"],
        precision=_attack_precision(given),
        only_union=given["only_union"],
    )


def _attack_precision(given: dict[str, Any]) -> str:
    """Return what attacks compute in; ``auto`` is bfloat16 where a GPU has it."""
    if given["attack_precision"] != "auto":
        return str(given["attack_precision"])
    if given["attack"] == "autoattack":
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def ingredients(refs: Sequence[str], given: dict[str, Any]) -> sm.Ingredients:
    """Return the ingredients at *refs*, of which the options *given* select some tensors."""
    chosen = {key: given[key] for key in ("weights_key", "exclude", "only", "head")}
    if not refs:
        return sm.load(*refs)
    return sm.load(*refs, **chosen, base=index_of_base(given, len(refs)))


def calibration(given: dict[str, Any]) -> sm.Calibration:
    """Return the images that batch-norm statistics are to be estimated on."""
    if len(given["threats"]) > 1:
        raise UsageError("give one at most", where="--threat with --buffers recalibrate")
    attack = sm.APGD.training(given["threats"][0], steps=10) if given["threats"] else None
    images = sm.data(given["data_ref"], split=given["split"], limit=given["limit"])
    return sm.Calibration(images, attack, given["batch_size"], given["seed"])


def network(given: dict[str, Any], like: Any, **arguments: Any) -> Any:
    """Return the network that the options *given* name, or the files of *like* do."""
    normaliser = {k: given[k] for k in ("mean", "std") if given.get(k)}
    return sm.model(given["model"], like=like, **normaliser, **arguments)


def trained_against(threats: Sequence[sm.Threat | None]) -> list[sm.Threat]:
    """Return the threats to train against: none if that is to be clean."""
    if None in threats and len(threats) > 1:
        fix = "give --trades for a share of clean loss"
        raise UsageError("clean, and threats as well", where="--threat", fix=fix)
    return [threat for threat in threats if threat is not None]


def objective(given: dict[str, Any], threats: Sequence[sm.Threat], trades: str) -> sm.Adversarial:
    """Return what the options *given* minimise, under *threats*, with a share *trades* of clean."""
    from soupmerge.numbers import exact

    named = {"trades-kl": given["trades_kl"], "mart": given["mart"]}
    forms = {form: beta for form, beta in named.items() if beta is not None}
    if len(forms) > 1:
        raise UsageError("give one of the two", where="--trades-kl and --mart")
    form, beta = next(iter(forms.items()), ("mix", 6.0))
    return sm.against(
        threats,
        alpha=float(exact(trades, "--trades")),
        steps=given["attack_steps"],
        form=form,
        beta=beta,
        smoothing=given["label_smoothing"],
    )


def warn_of_test(split: str, does: str) -> None:
    """Warn if images that should judge are about to choose."""
    if split.startswith("test"):
        warnings.warn(f"--split {split} {does}: judge the soup on other images", stacklevel=2)


def index_of_base(given: dict[str, Any], k: int) -> int:
    """Return the index of the base ingredient, of *k*, which people count from 1."""
    if not 1 <= given["base"] <= k:
        what = f"{given['base']} is not one of {k} ingredients"
        raise UsageError(what, where="--base", fix=f"give a number from 1 to {k}")
    return int(given["base"]) - 1


def device(given: dict[str, Any]) -> Any:
    """Return the device that the options *given* name, and set the number of threads."""
    import torch

    from soupmerge.binding import device_of

    if given["workers"]:
        torch.set_num_threads(given["workers"])
    chosen = device_of(given["device"])
    if given["verbose"]:
        show.note(f"torch {torch.__version__}, {torch.get_num_threads()} threads, device {chosen}")
    return chosen


def tell(checkpoints: Iterable[sm.Checkpoint], given: dict[str, Any]) -> None:
    """Say what was unwrapped and stripped to get at the weights; if verbose, what they are."""
    for checkpoint in checkpoints:
        for note in checkpoint.notes:
            show.note(f"{checkpoint.ref}: {note}")
        if given["verbose"]:
            told = f"{len(checkpoint)} tensors, {checkpoint.numel:,} numbers"
            show.note(f"{checkpoint.ref}: {told}, sha256 {checkpoint.sha256}")

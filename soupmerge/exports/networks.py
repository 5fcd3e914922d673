"""The configuration that makes a network again, and a comparison with what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from soupmerge.binding import bind, ref_of
from soupmerge.errors import InputError
from soupmerge.sources.models import model
from soupmerge.sources.models.normaliser import Normaliser
from soupmerge.storage import commit
from soupmerge.storage.reading import read_json
from soupmerge.types import State
from soupmerge.weights.files import Checkpoint

TIMM, SOUPMERGE = "timm", "soupmerge"
SIZES = (32, 224, 8)
"""Sides of the random image, tried in turn, for a network that does not state its size."""
ABOUT_WEIGHTS = ("tag", "license", "origin_url", "paper_ids", "paper_name", "description", "notes")
"""Fields in which timm describes its own weights for a network, and which do not fit a soup."""
TOLERANCE = 1e-4
"""Allowed difference of logits, relative to the largest, for sums in another order."""


REPORT = "report it, with the network and timm's version"


def write_config(path: Path, net: nn.Module) -> str:
    """Write the configuration of *net* to *path*, and return the library that can read it."""
    ref = ref_of(net) or ""
    if not ref.startswith("timm:"):
        commit.write_json(path, {"library_name": SOUPMERGE, "soupmerge": {"network": ref}})
        return SOUPMERGE
    from timm.models._hub import save_config_for_hf

    mean, std = constants(net)
    config: Any = {"pretrained_cfg": {"mean": list(mean), "std": list(std)}}
    with commit.writing(path):
        save_config_for_hf(net, str(path), model_config=config)
    value = read_json(path)
    for field in ABOUT_WEIGHTS:
        value["pretrained_cfg"].pop(field, None)
    commit.write_json(path, value, force=True)  # synced to disk, like all other files
    return TIMM


def constants(net: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation, one each per channel, that *net* normalises by; else 0 and 1."""
    for hook in net._forward_pre_hooks.values():
        if isinstance(hook, Normaliser):
            return hook.mean, hook.std
    channels = int(getattr(net, "pretrained_cfg", {}).get("input_size", (3,))[0])
    return (0.0,) * channels, (1.0,) * channels


def difference(
    folder: Path, written: Checkpoint, net: nn.Module, state: State, loader: str
) -> float:
    """Return the largest difference of a logit between *folder* and *net* with *state*.

    Args:
        folder: the export, which is loaded by *loader*.
        written: its weights.

    Raises:
        InputError: it cannot be loaded, tensors differ at all, or logits by more than rounding.
    """
    ours = bind(net, state)
    if different := [n for n in sorted(state) if not torch.equal(written[n], state[n])]:
        what = "the exported weights are not those of the soup (a bug of ours)"
        raise InputError(what, problems=different, where=folder)
    x = _image(ours)
    theirs, image = (_by_timm if loader == TIMM else _by_soupmerge)(folder, written, net, x)
    _require_same(theirs.state_dict(), ours.state_dict(), folder)
    with torch.no_grad():
        before, after = ours(x), theirs(image)
    largest = float((before - after).abs().max())
    if not largest <= TOLERANCE * max(1.0, float(before.abs().max())):
        what = f"{loader} loads it, but its logits differ by {largest:.3g}"
        raise InputError(what, where=folder, fix=REPORT)
    return largest


def _by_timm(
    folder: Path, written: Checkpoint, net: nn.Module, x: Tensor
) -> tuple[nn.Module, Tensor]:
    import timm

    try:
        loaded: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # timm may raise anything
        what = f"timm cannot load it: {str(error).splitlines()[0]}"
        raise InputError(what, where=folder, fix="check --model") from error
    config: Mapping[str, Any] = loaded.pretrained_cfg  # type: ignore[assignment]
    mean, std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return loaded.eval().requires_grad_(False), (x - mean) / std


def _by_soupmerge(
    folder: Path, written: Checkpoint, net: nn.Module, x: Tensor
) -> tuple[nn.Module, Tensor]:
    return bind(model(ref_of(net), like=written) if ref_of(net) else net, written), x


def _require_same(theirs: State, ours: State, folder: Path) -> None:
    problems = [f"{name}: only in one of them" for name in sorted(set(theirs) ^ set(ours))]
    both = sorted(set(theirs) & set(ours))
    problems += [
        f"{name}: different numbers" for name in both if not _same(theirs[name], ours[name])
    ]
    if problems:
        what = "loads back with other tensors"
        raise InputError(what, problems=problems, where=folder, fix=REPORT)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _image(net: nn.Module) -> Tensor:
    """Return a random image ``(1, C_in, H, W)`` that *net* accepts.

    Raises:
        InputError: it accepts none.
    """
    size = getattr(net, "pretrained_cfg", {}).get("input_size")
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    channels = convolutions[0].in_channels if convolutions else 3
    shapes = [tuple(size)] if size else [(channels, side, side) for side in SIZES]
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        x = torch.rand(1, *shape, generator=generator)
        try:
            with torch.no_grad():
                net(x)
        except Exception as error:  # foreign code may raise anything
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        return x
    raise InputError(f"the network accepts no image of shape {shapes}: {why}", where=ref_of(net))

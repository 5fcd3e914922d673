"""References to networks → modules: ``resnet9?width=16``, ``timm:resnet18``, a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

import torch
from torch import nn

from soupmerge.choices import NETWORKS, implementation
from soupmerge.errors import InputError, SoupmergeError, UnsafeError, UsageError, near_miss
from soupmerge.numbers import count, exact, is_decimal
from soupmerge.sources import functions
from soupmerge.sources.models.normaliser import Normaliser, per_image
from soupmerge.sources.robustbench import zoo
from soupmerge.types import State
from soupmerge.weights.ingredients import Ingredients

HARMLESS = {"num_classes", "in_chans", "img_size", "global_pool", "mean", "std"}
"""Arguments of timm's networks that a file may ask for: numbers, and the name of a pooling."""


def model(
    ref: str | None = None, *, like: Any = None, seed: int = 0, **arguments: Any
) -> nn.Module:
    """Return the network that *ref* names, in evaluation mode, with freshly initialised weights.

    It maps images ``(B, C_in, H, W)`` in ``[0, 1]`` to logits ``(B, C)``. `bind` gives it weights.

    Args:
        ref: a built-in name, ``timm:NAME``, ``rb:DATA/THREAT/NAME`` (the network of that entry of
            RobustBench) or ``package.module:function``, with arguments as a query
            (``resnet9?width=16``). ``mean`` and ``std`` add a normaliser, ``constants`` names
            the tensors that hold them, and ``per_image=true`` standardises each image.
            Default: the network that *like* names.
        like: ingredients, a checkpoint or a state dict. Its files may name the network, and its
            head determines the number of classes.
        seed: seed of the weights; the global random state is left alone.
        arguments: added to those of the query.

    Raises:
        UsageError: there is no such network, or it does not take these arguments.
        UnsafeError: a file names a network that is neither built in nor timm's.
        InputError: a function does not return a torch module.

    Example:
        >>> sum(p.numel() for p in model("resnet9?width=16").parameters())
        412954
    """
    if ref is None:
        ref = _named_in(like)
    if not isinstance(ref, str):
        what = f"expected a reference such as 'resnet9', found a {type(ref).__name__}"
        raise UsageError(what, where="model", fix="weights are given as like=")
    if ref.startswith(zoo.PREFIX):
        ref = zoo.network(ref)
    name, _, query = ref.partition("?")
    options = {**{k: _value(v) for k, v in parse_qsl(query)}, **arguments}
    net = _make(name, options, seed)
    state = like.alone(0) if isinstance(like, Ingredients) else like
    if state is not None and not isinstance(state, Mapping):
        state = next(iter(state), None)
    classes = _classes_of(net, state)
    if classes is not None and "num_classes" not in options:
        options["num_classes"] = classes
        net = _make(name, options, seed)
    query = urlencode({key: _text(options[key]) for key in sorted(options)}, safe=",")
    net.soupmerge_ref = f"{name}?{query}" if query else name  # type: ignore[assignment]
    return net.eval()


def _named_in(like: Any) -> str:
    """Return the network that files name, if making it cannot run foreign code."""
    ref = getattr(like, "model", None)
    if ref is None:
        where = getattr(like, "ref", None) or "model"
        fix = "name it: --model NAME, or model(NAME, …) in Python"
        raise UsageError("the files do not name their network", where=where, fix=fix)
    name, _, query = ref.partition("?")
    beyond_timm = set(dict(parse_qsl(query))) - HARMLESS
    if name not in NETWORKS and (not name.startswith("timm:") or beyond_timm):
        fix = f"if you trust it, name it: --model {ref!r}, or model({ref!r}, …) in Python"
        raise UnsafeError("the files name a network that could run code", where="model", fix=fix)
    return str(ref)


def _make(name: str, options: Mapping[str, Any], seed: int) -> nn.Module:
    arguments = dict(options)
    mean, std = (_floats(arguments.pop(key, None)) for key in ("mean", "std"))
    if isinstance(arguments.get("img_size"), str):  # height and width, which timm takes as a pair
        arguments["img_size"] = _sizes(arguments["img_size"])
    constants = tuple(filter(None, str(arguments.pop("constants", "")).split(",")))
    standardised = arguments.pop("per_image", False)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            net = _maker(name)(**arguments)
    except SoupmergeError:
        raise
    except (Exception, SystemExit) as error:  # foreign code may raise anything
        fix = "check the arguments after its name"
        raise UsageError(f"cannot be made: {error!r}", where=f"model {name}", fix=fix) from error
    if not isinstance(net, nn.Module):
        what = f"returned a {type(net).__name__}, not a torch module"
        raise InputError(what, where=f"model {name}")
    if name.startswith("timm:") and mean is None and std is None:
        mean, std = _timm_constants(net, int(options.get("in_chans", 3)))
    if mean is not None or std is not None or constants:
        Normaliser(mean or (), std or (), constants).put_into(net)
    if standardised:
        net.register_forward_pre_hook(per_image)
    return net


def _maker(name: str) -> Callable[..., nn.Module]:
    if name in NETWORKS:
        place, _, query = NETWORKS[name].place.partition("?")
        make: Callable[..., nn.Module] = implementation({name: place}, name, "model")
        return partial(make, **{key: _value(value) for key, value in parse_qsl(query)})
    kind, _, rest = name.partition(":")
    if kind == "timm":
        return lambda **arguments: _timm(rest, arguments)
    if functions.is_function(name):
        return functions.imported(name, "model")  # type: ignore[no-any-return]
    fix = functions.how_to_write(name)
    if fix is None and not (fix := near_miss(name, NETWORKS)).startswith("did you mean"):
        fix = f"name a built-in one such as resnet18-cifar, timm:NAME, or {functions.FORM}"
    raise UsageError(f"unknown network {name!r}", where="model", fix=fix)


def _timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        fix = near_miss(name, timm.list_models())
        raise UsageError(f"timm has no {name!r}", where="model", fix=fix)
    net: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return net


def _timm_constants(
    net: nn.Module, channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return timm's mean and deviation; if *channels* is not 3, their averages for each channel."""
    config: Any = getattr(net, "pretrained_cfg", {})
    both = _floats(config.get("mean")), _floats(config.get("std"))
    if channels == 3:
        return both
    mean, std = (v and (sum(v) / len(v),) * channels for v in both)
    return mean, std


def _classes_of(net: nn.Module, state: State | None) -> int | None:
    """Return the number of classes of *state*'s head, if it differs from *net*'s only in that."""
    heads = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    if state is None or not heads:
        return None
    name, head = heads[-1]
    shape = next((tuple(state[n].shape) for n in state if n.endswith(f"{name}.weight")), None)
    same_input = shape is not None and len(shape) == 2 and shape[1] == head.in_features
    return shape[0] if shape and same_input and shape[0] != head.out_features else None


def _value(text: str) -> Any:
    """Return the number, truth value or None that *text* spells, else *text*."""
    if is_decimal(text):
        return float(text) if set(text) & set(".eE") else int(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _text(value: Any) -> str:
    """Return *value* as `_value` reads it."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _floats(value: Any) -> tuple[float, ...] | None:
    """Return the numbers of *value*: one, several, or text with commas between them."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    numbers = parts if isinstance(parts, (list, tuple)) else [parts]
    return tuple(float(exact(n, "mean/std") if isinstance(n, str) else n) for n in numbers)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(count(word.strip()) for word in text.split(","))
    if not all(sizes):
        fix = "give a height and a width, such as 224,256"
        raise UsageError(f"{text!r} is not a size", where="model img_size", fix=fix)
    return tuple(filter(None, sizes))

"""Written forms of networks → modules: ``resnet9?width=16``, ``timm:resnet18``, ``pkg.mod:fn``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import torch
from torch import nn

from soupmerge.errors import InputError, SoupmergeError, UnsafeError, UsageError, near_miss
from soupmerge.numbers import count, exact, is_decimal
from soupmerge.sources.models.families import BUILT_IN as BUILT_IN
from soupmerge.sources.models.normalising import Normaliser, per_image
from soupmerge.sources.robustbench import zoo
from soupmerge.types import State
from soupmerge.weights.ingredients import Ingredients

HARMLESS = {"num_classes", "in_chans", "img_size", "global_pool", "mean", "std"}
"""Arguments that a file may ask a network of timm's for: numbers, and the name of a pooling."""


def model(
    ref: str | None = None, *, like: Any = None, seed: int = 0, **arguments: Any
) -> nn.Module:
    """Return the network that *ref* names, in evaluation mode.

    Args:
        ref: a built-in name, ``timm:NAME``, ``rb:DATA/THREAT/NAME`` (the network of that entry of
            RobustBench) or ``package.module:function``, with arguments as a query
            (``resnet9?width=16``); ``mean`` and ``std`` put a normaliser inside, ``constants``
            names the tensors that hold them, ``per_image=true`` standardises each image.
        like: ingredients or a state whose files may name the network, and whose head says how
            many classes it has.
        seed: for its fresh weights; the caller's random state is left alone.
        arguments: added to those of the query.

    Raises:
        UsageError: there is no such network, or it does not take these arguments.
        UnsafeError: a file names a network that is neither built in nor timm's.

    Example:
        >>> sum(p.numel() for p in model("resnet9?width=16").parameters())
        412954
    """
    if ref is None:
        ref = _named_in(like)
    if ref.startswith(zoo.PREFIX):
        ref = zoo.network(ref)
    name, _, query = ref.partition("?")
    given = {**{k: _value(v) for k, v in parse_qsl(query)}, **arguments}
    net = _made(name, given, seed)
    state = like.alone(0) if isinstance(like, Ingredients) else like
    if state is not None and not isinstance(state, Mapping):
        state = next(iter(state), None)
    classes = _classes_of(net, state)
    if classes is not None and "num_classes" not in given:
        given["num_classes"] = classes
        net = _made(name, given, seed)
    written = name + ("?" + urlencode(_written(given), safe=",") if given else "")
    net.soupmerge_ref = written  # type: ignore[assignment]
    return net.eval()


def _named_in(like: Any) -> str:
    """Return the network that files name; only names that can run no foreign code count."""
    ref = getattr(like, "model", None)
    if ref is None:
        where = getattr(like, "ref", None) or "model"
        raise UsageError("the files do not name their network", where=where, fix="give --model")
    name, _, query = ref.partition("?")
    timm_extras = set(dict(parse_qsl(query))) - HARMLESS
    if name not in BUILT_IN and (not name.startswith("timm:") or timm_extras):
        fix = f"if you trust it, give --model {ref!r}"
        raise UnsafeError("the files name a network that could run code", where="model", fix=fix)
    return str(ref)


def _made(name: str, given: Mapping[str, Any], seed: int) -> nn.Module:
    arguments = dict(given)
    mean, std = (_floats(arguments.pop(key, None)) for key in ("mean", "std"))
    if isinstance(arguments.get("img_size"), str):  # height and width, which timm takes as a pair
        arguments["img_size"] = _sizes(arguments["img_size"])
    constants = tuple(filter(None, str(arguments.pop("constants", "")).split(",")))
    each = arguments.pop("per_image", False)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            net = _maker(name)(**arguments)
    except SoupmergeError:
        raise
    except (Exception, SystemExit) as error:  # the function may be anyone's
        fix = "check the arguments after its name"
        raise UsageError(f"cannot be made: {error!r}", where=f"model {name}", fix=fix) from error
    if not isinstance(net, nn.Module):
        raise InputError(f"gave a {type(net).__name__}, not a torch module", where=f"model {name}")
    if name.startswith("timm:") and mean is None and std is None:
        mean, std = _timm_constants(net, int(given.get("in_chans", 3)))
    if mean is not None or std is not None or constants:
        Normaliser(mean or (), std or (), constants).put_into(net)
    if each:
        net.register_forward_pre_hook(per_image)
    return net


def _maker(name: str) -> Callable[..., nn.Module]:
    if name in BUILT_IN:
        return BUILT_IN[name]
    kind, colon, rest = name.partition(":")
    if kind == "timm":
        return lambda **arguments: _timm(rest, arguments)
    if colon and kind.replace(".", "").isidentifier():
        return imported(name, "model")  # type: ignore[no-any-return]
    fix = near_miss(name, [*BUILT_IN, "timm:NAME", "package.module:function"])
    raise UsageError(f"no network {name!r}", where="model", fix=fix)


def _timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise UsageError(
            f"timm has no {name!r}", where="model", fix=near_miss(name, timm.list_models())
        )
    net: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return net


def _timm_constants(
    net: nn.Module, channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return timm's mean and deviation; for other than its 3 channels, their average for each."""
    config: Any = getattr(net, "pretrained_cfg", {})
    both = _floats(config.get("mean")), _floats(config.get("std"))
    if channels == 3:
        return both
    mean, std = (v and (sum(v) / len(v),) * channels for v in both)
    return mean, std


def imported(name: str, where: str) -> Any:
    """Return the object written ``package.module:function``.

    Raises:
        UsageError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a console script does not look here by itself
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # the module may be anyone's
        fix = "write package.module:function, importable from here"
        raise UsageError(f"{name!r} cannot be imported: {error!r}", where=where, fix=fix) from error


def _classes_of(net: nn.Module, state: State | None) -> int | None:
    """Return the classes of *state*'s head, if it is *net*'s head but for their number."""
    heads = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    if state is None or not heads:
        return None
    name, head = heads[-1]
    shape = next((tuple(state[n].shape) for n in state if n.endswith(f"{name}.weight")), None)
    same_input = shape is not None and len(shape) == 2 and shape[1] == head.in_features
    return shape[0] if shape and same_input and shape[0] != head.out_features else None


def _value(text: str) -> Any:
    if is_decimal(text):
        return float(text) if set(text) & set(".eE") else int(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _floats(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    words = value.split(",") if isinstance(value, str) else value
    listed = words if isinstance(words, (list, tuple)) else [words]
    return tuple(float(exact(w, "mean/std") if isinstance(w, str) else w) for w in listed)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(count(word.strip()) for word in text.split(","))
    if not all(sizes):
        fix = "give a height and a width, such as 224,256"
        raise UsageError(f"{text!r} is not a size", where="model img_size", fix=fix)
    return tuple(filter(None, sizes))


def _written(given: Mapping[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return ",".join(map(text, value))
        return str(value).lower() if isinstance(value, bool) else str(value)

    return {key: text(given[key]) for key in sorted(given)}

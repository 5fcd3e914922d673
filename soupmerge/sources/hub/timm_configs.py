"""timm's ``config.json`` → the reference of its network, with its normaliser."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from soupmerge.errors import InputError
from soupmerge.storage.reading import read_json

DEFAULT = ("in_chans", 3)
"""An argument that is left out of references."""
LARGEST = {"num_classes": 1_000_000, "in_chans": 1024, "img_size": 4096}


def network_in(config: Path) -> tuple[str | None, str | None]:
    """Return the network that timm's *config* names and None, or None and why there is none.

    A file without ``architecture`` belongs to another library: both are None.
    """
    try:
        value = read_json(config)
    except InputError as error:
        return None, f"config.json names no network: {error.what}"
    if not isinstance(value, dict) or "architecture" not in value:
        return None, None
    try:
        return network_of(value), None
    except (AttributeError, TypeError, ValueError) as error:
        return None, f"config.json names a network that only --model can make: {error}"


def network_of(value: Mapping[str, Any]) -> str:
    """Return the reference of the network that timm's config *value* describes.

    Raises:
        TypeError, ValueError: it has settings that a reference cannot express.

    Example:
        >>> network_of({"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {}})
        'timm:resnet18?num_classes=10'
    """
    name, cfg = value["architecture"], value.get("pretrained_cfg", value)
    if not re.fullmatch(r"[a-z]\w*", str(name)):
        raise ValueError(f"architecture {str(name)[:60]!r}")
    arguments = dict(value.get("model_args") or {})
    arguments.setdefault("num_classes", value.get("num_classes", cfg.get("num_classes")))
    size = [int(n) for n in cfg.get("input_size") or ()]
    if size and size[0] != 3:
        arguments.setdefault("in_chans", size[0])
    if size and cfg.get("fixed_input_size"):
        arguments.setdefault("img_size", size[1:])
    pool = arguments.pop("global_pool", None)
    query = {k: _sizes(k, v) for k, v in arguments.items() if v is not None and (k, v) != DEFAULT}
    if pool is not None:
        query["global_pool"] = _word(pool)
    for key in ("mean", "std"):
        if cfg.get(key):
            query[key] = _with_commas(_numbers(cfg[key]))
    text = urlencode(dict(sorted(query.items())), safe=",")
    return f"timm:{name}?{text}" if text else f"timm:{name}"


def _word(value: Any) -> str:
    if not re.fullmatch(r"[a-z]{1,20}", str(value)):
        raise ValueError(f"global_pool {str(value)[:60]!r}")
    return str(value)


def _sizes(key: str, value: Any) -> str:
    if key not in LARGEST:
        raise ValueError(f"model_args {key!r}")
    sizes = value if isinstance(value, (list, tuple)) else [value]
    if len(set(sizes)) == 1:
        sizes = sizes[:1]
    if not sizes or not all(type(n) is int and 0 < n <= LARGEST[key] for n in sizes):
        raise ValueError(f"{key} {str(value)[:60]}")
    return _with_commas(sizes)


def _numbers(values: Any) -> list[float]:
    numbers = [float(v) for v in (values if isinstance(values, (list, tuple)) else [values])]
    if len(numbers) > LARGEST["in_chans"] or not all(map(math.isfinite, numbers)):
        raise ValueError("mean and std that are not finite numbers")
    return numbers


def _with_commas(values: Iterable[object]) -> str:
    return ",".join(map(str, values))

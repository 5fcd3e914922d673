"""``timm:name[.tag]`` → the checkpoint that timm uses as pretrained weights."""

from __future__ import annotations

from typing import Any

from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.sources import hub
from soupmerge.sources.hub.refs import HubRef
from soupmerge.weights.files import Checkpoint

PREFIX = "timm:"


def opened(ref: str, *, weights_key: str | None = None, foreign: bool = False) -> Checkpoint:
    """Return the weights of *ref*, pulled from the Hub repository that timm names.

    Raises:
        UsageError: timm has no such network, or *ref* has arguments, which weights do not take.
        InputError: timm names no repository for it.
        NetworkError, UnsafeError: see `soupmerge.sources.hub.opened`.
    """
    return hub.opened(str(on_hub(ref)), weights_key=weights_key, foreign=foreign)


def on_hub(ref: str) -> HubRef:
    """Return the reference to the weights of *ref* on the Hub.

    Raises:
        UsageError, InputError: see `opened`.
    """
    from timm.models import get_pretrained_cfg, is_model, list_models, list_pretrained

    name, question, _ = ref.removeprefix(PREFIX).partition("?")
    if question:
        fix = f"write {PREFIX}{name}, and arguments in --model"
        raise UsageError("weights take no arguments", where=ref, fix=fix)
    network = name.partition(".")[0]
    if not is_model(network):
        raise UsageError(f"timm has no {name!r}", where=ref, fix=near_miss(name, list_models()))
    if "." in name and name not in list_pretrained():
        fix = near_miss(name, list_pretrained(f"{network}.*"))
        raise UsageError(f"timm has no weights {name!r}", where=ref, fix=fix)
    config: Any = get_pretrained_cfg(name)
    if not config.hf_hub_id:
        elsewhere = f", only at {config.url}" if config.url else ""
        fix = "download them and name the file" if elsewhere else "name other weights"
        raise InputError(f"timm has no weights for it on the Hub{elsewhere}", where=ref, fix=fix)
    file = f":{config.hf_hub_filename}" if config.hf_hub_filename else ""
    return HubRef.parse(f"hf-hub:{config.hf_hub_id}{file}")

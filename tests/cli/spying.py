"""What a typed command hands to the library: the one call it makes, flattened to plain values."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.binding import ref_of
from soupmerge.cli import show
from soupmerge.soups.learn import stacks
from soupmerge.soups.search.choice import Tried
from soupmerge.sources import connections

REFS = "soupmerge.sources.refs"
READERS = (
    (sm, "load"),
    (REFS, "load"),
    (REFS, "opened"),
    (REFS, "opened_all"),
    (REFS, "of_recipe"),
)
"""What reads checkpoints; all of them take ``weights_key``, which ordinary files do not have."""

DATA = ((sm, "data"), ("soupmerge.sources.images.reading", "data_sets"))
"""What reads images."""


class Made(BaseException):
    """The call was made; nothing after it is of interest."""


def home_of(target: str) -> tuple[Any, str]:
    module, _, name = target.rpartition(".")
    return importlib.import_module(module), name


class Spy:
    """Stands in the place of library functions, and keeps what they are called with.

    Attributes:
        call: argument → value, of the call that was waited for.
        aside: what was said on the way: the network that was asked for, threads, and the like.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.call: dict[str, Any] | None = None
        self.aside: dict[str, Any] = {}
        monkeypatch.setattr(torch, "set_num_threads", lambda n: self._note("threads", n))
        monkeypatch.setattr("soupmerge.binding.device_of", _device)
        self.plan = stacks.plan
        monkeypatch.setattr(stacks, "plan", self._planned)
        for home, name in READERS:
            self._watch(importlib.import_module(home) if isinstance(home, str) else home, name)
        self._watch_model()
        self._watch_data()

    def _note(self, key: str, value: Any) -> None:
        self.aside[key] = value

    def _planned(self, ingredients: sm.Ingredients, **settings: Any) -> Any:
        self._note("plan", settings)
        elsewhere = torch.device(settings["device"]).type != "cpu"
        return (
            SimpleNamespace(describe=lambda: "")
            if elsewhere
            else self.plan(ingredients, **settings)
        )

    def _watch(self, home: Any, name: str) -> None:
        real = getattr(home, name)

        def noted(*args: Any, weights_key: str | None = None, **settings: Any) -> Any:
            if weights_key is not None:
                self._note("weights_key", weights_key)
            return real(*args, **settings)

        self.monkeypatch.setattr(home, name, noted)

    def _watch_model(self) -> None:
        real = sm.model

        def noted(ref: str | None = None, *, like: Any = None, **settings: Any) -> Any:
            self._note("model", {"ref": ref, **settings})
            return real(ref, like=like, **settings)

        self.monkeypatch.setattr(sm, "model", noted)

    def _watch_data(self) -> None:
        """Note how stored images are read, which makes no difference for the images here."""
        for home, name in DATA:
            module = importlib.import_module(home) if isinstance(home, str) else home
            real = getattr(module, name)

            def noted(*args: Any, real: Any = real, **settings: Any) -> Any:
                reading = {key: settings[key] for key in ("broken", "by") if key in settings}
                if isinstance(settings.get("classes"), str):
                    reading["classes"] = settings.pop("classes")
                self._note("reading", reading)
                return real(*args, **settings)

            self.monkeypatch.setattr(module, name, noted)

    def wait_for(self, *targets: str, answer: Callable[..., Any] | None = None) -> None:
        """End the command when one of *targets* is called, or go on with what *answer* gives."""
        for target in targets:
            home, name = home_of(target)
            signature = inspect.signature(getattr(home, name))
            self.monkeypatch.setattr(home, name, self._caught(name, signature, answer))

    def _caught(
        self, name: str, signature: inspect.Signature, answer: Callable[..., Any] | None
    ) -> Callable[..., Any]:
        def caught(*args: Any, **settings: Any) -> Any:
            bound = signature.bind(*args, **settings)
            bound.apply_defaults()
            self.call = {
                "call": name,
                **spread(bound.arguments),
                "offline": connections.is_offline(),
            }
            if answer is None:
                raise Made
            return answer(*args, **settings)

        return caught

    def arguments(self) -> dict[str, Any]:
        """Return all that was kept, as ``place.of.argument`` → plain value."""
        assert self.call is not None, "the library was not called"
        return dict(flat({**self.call, **self.aside}))


def spread(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return *arguments*, with the parts of a `Run` and of `Buffers` in their places."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, sm.Run):
            found |= vars(value)
        elif isinstance(value, sm.Buffers):
            found |= {"buffers": value.policy, "base": value.base}
        else:
            found[name] = value
    return found


def _device(name: str) -> torch.device:
    """Return the device *name*, whether this machine has it or not."""
    return torch.device("cpu" if name == "auto" else name)


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of *value*, each with its place."""
    value = _plain(value)
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        yield (f"{key}.len", len(value)) if value else (key, ())
        for i, inner in enumerate(value):
            yield from flat(inner, f"{key}.{i}")
    else:
        yield key, value


def _plain(value: Any) -> Any:
    if isinstance(value, show.Progress):
        return {"quiet": value.quiet}
    if isinstance(value, nn.Module):
        return ref_of(value)
    if isinstance(value, sm.Front):
        return value.sha256
    if isinstance(value, torch.Tensor):
        return [list(value.shape), float(value.double().sum())]
    if isinstance(value, sm.Ingredients):
        copied, skipped = dict(value.selection.copied), len(value.selection.skipped)
        return {
            "refs": [ingredient.ref for ingredient in value],
            "copied": copied,
            "skipped": skipped,
        }
    if isinstance(value, sm.Checkpoint):
        return value.ref
    if isinstance(value, sm.Recipe):
        summary = value.to_json()
        return {**summary, "ingredients": [s["ref"] for s in summary["ingredients"]]}
    if isinstance(value, Tried):
        return sorted({str(home) for home in value.homes})
    if isinstance(value, sm.Threat):
        return str(value)
    if hasattr(value, "threat") and hasattr(value, "describe"):
        return value  # an attack, which is equal to another of the same settings
    if hasattr(value, "fingerprint"):
        return {k: v for k, v in value.fingerprint().items() if k != "sha256"}
    if isinstance(value, (Path, torch.device)):
        return str(value)
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **own}
    if isinstance(value, range):
        return list(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, list, tuple)):
        return list(value)
    return value

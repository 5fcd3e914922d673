"""The state dict in a torch file; each tensor is checked against its storage before reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from soupmerge.errors import InputError, UnsafeError, enumerated, short_repr
from soupmerge.storage.reading import StableFile
from soupmerge.weights import archives
from soupmerge.weights.archives import AGAIN, TRUSTED, Archive
from soupmerge.weights.kinds import ZIP, kind_of
from soupmerge.weights.pickles import Call, PickleError
from soupmerge.weights.rebuilding import Faults, is_plain, is_tensor, key_and_size, view_of
from soupmerge.weights.tensors import View

SKIPPED = ("optim", "sched", "scaler")
"""Prefixes of entries that hold tensors but not a network's weights."""

MOST_TIED = 64
"""How many names a stored number may have on average: every name costs its bytes when written."""


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, *notes* on how it was extracted, and *ties*: names that share their numbers."""

    views: Mapping[str, View]
    notes: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()


def load(file: StableFile, weights_key: str | None = None, *, foreign: bool = False) -> Unwrapped:
    """Return the state dict in the torch *file*; numbers are read only to verify checksums.

    Args:
        weights_key: which state dict to take if there are several.
        foreign: accept a file that names code, none of which is run; see `soupmerge convert`.

    Raises:
        InputError: the file is damaged, has no state dict, or has several without *weights_key*.
        UnsafeError: the file refers to more than tensors and plain values.
    """
    zipped = kind_of(file) == ZIP
    archive = archives.open_zip(file) if zipped else archives.open_legacy(file, key_and_size)
    code = [name for name in archive.pickled.globals if not is_plain(name)]
    notes = []
    if code and not foreign:
        raise UnsafeError(
            "refers to more than tensors and plain values",
            problems=code,
            where=file.path,
            fix=f"{TRUSTED}, or extract only its numbers with soupmerge convert",
        )
    if code:
        notes.append(f"ignored references to {enumerated(code)}")
    try:
        key, tensors, beside = _choose(file, archive.pickled.value, weights_key)
    except PickleError as error:
        what = f"is a damaged torch file: its pickle {error}"
        raise InputError(what, where=file.path, fix=AGAIN) from error
    notes += [f"unwrapped {key!r}"] if key else []
    notes += [f"ignored {enumerated([*map(repr, beside)])}"] if beside else []
    return _checked(archive, tensors, notes)


def _choose(
    file: StableFile, value: Any, weights_key: str | None
) -> tuple[str, dict[str, Call], list[str]]:
    """Return the key of the state dict, its tensors, and the keys of entries beside it."""
    candidates = dict(_candidates(value, "", 0, set()))
    listed = enumerated([repr(key) for key in candidates])
    if weights_key is not None and weights_key not in candidates:
        raise InputError(
            f"has no weights {weights_key!r}", where=file.path, fix=f"it has {listed or 'none'}"
        )
    if not candidates:
        kind = "a mapping without tensors" if _is_mapping(value) else _kind(value)
        what = f"holds no state dict (names to tensors), but {kind}"
        raise InputError(what, where=file.path, fix="save the network's state_dict()")
    if len(candidates) > 1 and weights_key is None:
        what = f"holds several state dicts: {listed}"
        raise InputError(what, where=file.path, fix="choose one with --weights-key")
    key = next(iter(candidates)) if weights_key is None else weights_key
    outer = _items(value)
    beside = (
        [k for k in outer if isinstance(k, str) and k != key.split(".")[0]]
        if key
        else [
            k for k, v in outer.items() if isinstance(k, str) and v is not None and not is_tensor(v)
        ]
    )
    return key, candidates[key], beside


def _candidates(
    value: Any, path: str, depth: int, seen: set[int]
) -> Iterator[tuple[str, dict[str, Call]]]:
    """Yield each mapping of names to tensors, at most two levels deep, with its path."""
    if not _is_mapping(value) or id(value) in seen:
        return
    seen.add(id(value))
    items = _items(value)
    tensors = {k: v for k, v in items.items() if isinstance(k, str) and is_tensor(v)}
    if tensors:
        yield path, tensors
    elif depth < 2:
        for key, inner in items.items():
            if isinstance(key, str) and not key.lower().startswith(SKIPPED):
                yield from _candidates(inner, f"{path}.{key}" if path else key, depth + 1, seen)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, Call) and not is_tensor(value))


def _items(value: Any) -> dict[Any, Any]:
    """Return the entries of a mapping, or the parameters and buffers of a module by name."""
    if isinstance(value, dict):
        return value
    if isinstance(value.state, dict) and "_modules" in value.state:
        return dict(_module_items(value, "", 0))
    args = value.args if isinstance(value.args, tuple) else ()
    pairs = args[0] if args and isinstance(args[0], list) else []
    pairs = [pair for pair in pairs if isinstance(pair, (list, tuple)) and len(pair) == 2]
    named = [(k, v) for k, v in pairs if isinstance(k, str)]
    keys = [k for k, _ in named] + list(value.items or {})
    if len(set(keys)) < len(keys):
        twice = next(k for k, n in Counter(keys).items() if n > 1)
        raise PickleError(f"has the key {short_repr(twice)} twice")
    return {**dict(named), **(value.items or {})}


def _module_items(module: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    state = module.state if isinstance(module, Call) and isinstance(module.state, dict) else {}
    for kind in ("_parameters", "_buffers"):
        if _is_mapping(state.get(kind)):
            for name, value in _items(state[kind]).items():
                yield f"{prefix}{name}", value
    if depth < 32 and _is_mapping(state.get("_modules")):
        for name, inner in _items(state["_modules"]).items():
            yield from _module_items(inner, f"{prefix}{name}.", depth + 1)


def _kind(value: Any) -> str:
    if is_tensor(value):
        return "a single tensor"
    return "None" if value is None else f"a value of type {type(value).__name__.lower()}"


def _stored_bytes(archive: Archive, keys: Mapping[str, str]) -> int:
    """Return the total size of the storages in *keys*, tensor name → storage key."""
    return sum(archive.storages[key].size for key in {*keys.values()})


def _checked(archive: Archive, tensors: Mapping[str, Call], notes: list[str]) -> Unwrapped:
    faults, views, keys = Faults(), {}, {}
    for name, call in tensors.items():
        view_and_key = view_of(archive, name, call, faults)
        if view_and_key:
            views[name], keys[name] = view_and_key
    where = archive.file.path
    if faults.harmful:
        what = "has tensors that are larger than their stored data"
        raise UnsafeError(what, problems=faults.harmful, where=where, fix=TRUSTED)
    if faults.unusable:
        raise InputError(
            "has tensors that cannot be used", problems=faults.unusable, where=where, fix=TRUSTED
        )
    total, stored = sum(v.info.bytes for v in views.values()), _stored_bytes(archive, keys)
    if total > MOST_TIED * stored:
        what = f"has {len(views):,} tensors of {total:,} bytes in the same {stored:,} bytes"
        raise UnsafeError(what, where=where, fix=TRUSTED)
    archive.verify(keys.values())
    places: dict[View, list[str]] = {}
    for name, view in views.items():
        places.setdefault(view, []).append(name)
    ties = tuple(tuple(names) for v, names in places.items() if len(names) > 1 and v.info.numel)
    return Unwrapped(views, tuple(notes), ties)

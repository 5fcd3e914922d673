"""Recipes: the coefficients of a soup, and everything else that is needed to rebuild it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soupmerge.choices import BUFFER_POLICIES, FLOATS, require_origin
from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.references import portable, without_folders
from soupmerge.storage.reading import unknown_keys
from soupmerge.weights.groups import check_grouping
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.selection import EVERYTHING, Selection

FORMAT = "soupmerge-recipe/1"
KEYS = (
    *("format", "ingredients", "groups", "weights", "buffers", "origin"),
    *("affine", "copied", "skipped", "calibration", "dtype", "seen", "front"),
)
"""The keys of a recipe in JSON."""

RESTORE = "use the recipe as soupmerge wrote it"
FIX = "give one number per checkpoint, with a sum of 1"
TOLERANCE = 1e-6
"""How far the sum of a row may be from 1, to allow for rounding to decimals."""


@dataclass(frozen=True)
class Source:
    """An ingredient: its reference and the hash of its weights."""

    ref: str
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """θ_soup[g] = Σ_k W[g, k] · θ_k[g], for groups of tensors g and ingredients k.

    Attributes:
        sources: the K ingredients, in the order of the columns.
        groups: the names of the G groups, in the order of the rows.
        weights: W, ``(G, K)``; every row sums to 1, every entry is in [0, 1].
        by: the grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        buffers: policy for batch-norm statistics: ``average``, ``base`` or ``recalibrate``.
        base: the ingredient that counters, constants and (policy ``base``) statistics come from.
        origin: what chose the coefficients, one of `soupmerge.choices.ORIGINS`; ``mix`` is by hand.
        affine: entries may be outside [0, 1]; rows must still sum to 1.
        selection: tensors that are copied from one ingredient, or left out.
        calibration: the data on which statistics were re-estimated (policy ``recalibrate``).
        dtype: the soup's floating-point dtype; None keeps the dtypes of the first ingredient.
        seen: the images that chose the coefficients, as entries of `soupmerge.weights.ledger`.
        front: if the soup is a point of a front, the hash of that and the preference.

    Raises:
        UsageError: a row does not sum to 1, an entry is not in [0, 1], or a policy, grouping or
            dtype is unknown; all problems are listed.

    Example:
        >>> sources = (Source("a.pt", "0" * 64), Source("b.pt", "1" * 64))
        >>> recipe = Recipe(sources, ("features", "head"), ((0.5, 0.5), (1.0, 0.0)), by="block")
        >>> recipe.mean_weights
        (0.75, 0.25)
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
    """

    sources: tuple[Source, ...]
    groups: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    by: str = "model"
    buffers: str = "average"
    base: int = 0
    origin: str = "mix"
    affine: bool = False
    selection: Selection = EVERYTHING
    calibration: Mapping[str, Any] | None = None
    dtype: str | None = None
    seen: tuple[Mapping[str, Any], ...] = ()
    front: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        problems = [
            p
            for g, row in zip(self.groups, self.weights, strict=False)
            for p in self._faults(g, row)
        ]
        if len(self.groups) != len(self.weights):
            problems.append(
                f"{len(self.groups)} groups, but {len(self.weights)} rows of coefficients"
            )
        try:
            check_grouping(self.by)
        except UsageError as error:
            problems.append(str(error))
        if not self.groups:
            problems.append("no group of tensors")
        if self.buffers not in BUFFER_POLICIES:
            fix = near_miss(self.buffers, BUFFER_POLICIES)
            problems.append(f"unknown buffer policy {self.buffers!r}; {fix}")
        if self.dtype is not None and self.dtype not in FLOATS:
            problems.append(f"unknown dtype {self.dtype!r}; {near_miss(self.dtype, FLOATS)}")
        if not 0 <= self.base < len(self.sources):
            problems.append(f"base ingredient {self.base} is not one of {len(self.sources)}")
        if problems:
            raise UsageError("invalid coefficients", problems=problems, fix=FIX)

    def _faults(self, group: str, row: Sequence[float]) -> list[str]:
        name = "" if group == "model" else f"{group}: "
        if len(row) != len(self.sources):
            return [f"{name}{len(self.sources)} checkpoints, {len(row)} coefficients"]
        if not all(math.isfinite(w) for w in row):
            return [f"{name}{_listed(row)} are not all finite"]
        if abs(sum(row) - 1) > TOLERANCE:
            fix = "write exact fractions such as 1/3,1/3,1/3"
            return [f"{name}{_listed(row)} sum to {sum(row):.9g}, not 1; {fix}"]
        if not self.affine and (min(row) < 0 or max(row) > 1):
            fix = "give --affine to allow that"
            return [f"{name}{_listed(row)} are not all between 0 and 1; {fix}"]
        return []

    @classmethod
    def of(
        cls,
        ingredients: Ingredients,
        weights: Sequence[float] | Sequence[Sequence[float]],
        *,
        by: str = "model",
        **policy: Any,
    ) -> Recipe:
        """Return the recipe that mixes *ingredients* with *weights*: a row per group, or one row.

        *policy* may hold ``buffers``, ``base``, ``origin``, ``affine`` and ``dtype``, as above.
        """
        require_origin(policy.get("origin", "mix"))
        nested = any(isinstance(row, Sequence) for row in weights)
        table: Any = weights if nested else [weights]
        return cls(
            sources=tuple(Source(s["ref"], s["sha256"]) for s in ingredients.fingerprint()),
            groups=tuple(ingredients.groups(by)),
            weights=tuple(tuple(float(w) for w in row) for row in table),
            by=by,
            selection=ingredients.selection,
            **policy,
        )

    @classmethod
    def uniform(cls, ingredients: Ingredients, **policy: Any) -> Recipe:
        """Return the recipe of the uniform soup, (1/K) Σ_k θ_k."""
        return cls.of(ingredients, [1 / len(ingredients)] * len(ingredients), **policy)

    def require_made_of(self, ingredients: Ingredients, *, where: object = None) -> None:
        """Reject ingredients that are not those of the recipe.

        Raises:
            InputError: their number or hashes differ; all differences are listed.
        """
        if len(ingredients) != len(self.sources):
            what = f"has {len(self.sources)} ingredients, not {len(ingredients)}"
            raise InputError(what, where=where, fix="give a REF for each")
        wrong = [
            f"{ingredient.ref} has sha256 {digest[:16]}…, expected {source.sha256[:16]}…"
            for ingredient, digest, source in zip(
                ingredients, ingredients.hashes, self.sources, strict=True
            )
            if digest != source.sha256
        ]
        if wrong:
            fix = "give the files that the soup was made from, in the same order"
            raise InputError("these are not its ingredients", problems=wrong, where=where, fix=fix)

    def rows_by_tensor(self, ingredients: Ingredients) -> dict[str, tuple[float, ...]]:
        """Return tensor name → its K coefficients, for every tensor of the soup.

        Tensors that are not mixed have a coefficient of 1 for one ingredient.

        Raises:
            InputError: the groups are not those of *ingredients*.
        """
        groups = ingredients.groups(self.by)
        if tuple(groups) != self.groups:
            ours, theirs = len(self.groups), len(groups)
            what = f"the recipe's groups ({ours}) are not those of the files ({theirs})"
            raise InputError(what, fix="use the checkpoints that it names")
        table, rows = [*self.weights, self.mean_weights], ingredients.rows(self.by, self.buffers)
        return {
            name: table[rows[name]]
            if name in rows
            else self._one_hot(ingredients.source_of(name, self.base))
            for name in ingredients.infos
        }

    def _one_hot(self, k: int) -> tuple[float, ...]:
        return tuple(float(i == k) for i in range(len(self.sources)))

    @property
    def mean_weights(self) -> tuple[float, ...]:
        """The K coefficients averaged over groups: the share of each ingredient in the soup."""
        return tuple(sum(column) / len(self.weights) for column in zip(*self.weights, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values; numbers are preserved exactly."""
        value = {
            "format": FORMAT,
            "ingredients": [{"ref": s.ref, "sha256": s.sha256} for s in self.sources],
            "groups": self.by,
            "weights": {g: list(row) for g, row in zip(self.groups, self.weights, strict=True)},
            "buffers": {"policy": self.buffers, "base": self.base},
            "origin": self.origin,
        }
        optional = {
            "affine": self.affine,
            "copied": dict(self.selection.copied),
            "skipped": sorted(self.selection.skipped),
            "calibration": self.calibration,
            "dtype": self.dtype,
            "seen": list(self.seen),
            "front": self.front,
        }
        return value | {key: entry for key, entry in optional.items() if entry}

    def portable(self) -> Recipe:
        """Return the recipe with file names only: independent of folders, and revealing none."""
        sources = tuple(Source(portable(s.ref), s.sha256) for s in self.sources)
        calibration = self.calibration
        data = calibration.get("data") if calibration else None
        if calibration and isinstance(data, dict) and "ref" in data:
            data = {**data, "ref": without_folders(str(data["ref"]))}
            calibration = {**calibration, "data": data}
        return dataclasses.replace(self, sources=sources, calibration=calibration)

    @classmethod
    def from_json(cls, value: Any, *, where: object = None) -> Recipe:
        """Return the recipe that `to_json` wrote.

        Raises:
            InputError: *value* is not a recipe of this version, or has unknown keys.
        """
        form = value.get("format") if isinstance(value, dict) else None
        if form != FORMAT:
            newer = isinstance(form, str) and form.startswith("soupmerge-recipe/")
            fix = "use a newer soupmerge" if newer else "give a recipe.json or a soup"
            raise InputError(f"is not a recipe of format {FORMAT!r}", where=where, fix=fix)
        if problems := _unknown_keys(value):
            what = "has unknown keys"
            raise InputError(what, problems=problems, where=where, fix="correct or remove them")
        try:
            return cls(
                sources=tuple(
                    Source(_text(s["ref"]), _text(s["sha256"])) for s in value["ingredients"]
                ),
                groups=tuple(value["weights"].keys()),
                weights=tuple(tuple(map(_number, row)) for row in value["weights"].values()),
                by=_text(value["groups"]),
                buffers=_text(value["buffers"]["policy"]),
                base=_index(value["buffers"]["base"]),
                origin=_text(value.get("origin", "mix")),
                affine=_flag(value.get("affine", False)),
                selection=_selection(value),
                calibration=value.get("calibration"),
                dtype=None if value.get("dtype") is None else _text(value["dtype"]),
                seen=tuple(dict(entry) for entry in value.get("seen", [])),
                front=value.get("front"),
            )
        except UsageError as error:
            raise InputError(str(error), where=where, fix=RESTORE) from error
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"is a damaged recipe ({error!r})"
            raise InputError(what, where=where, fix=RESTORE) from error


def _unknown_keys(value: Mapping[str, Any]) -> list[str]:
    """Return a message for each key that `Recipe.to_json` never writes."""
    problems = unknown_keys(value, KEYS)
    ingredients, statistics = value.get("ingredients"), value.get("buffers")
    for i, source in enumerate(ingredients if isinstance(ingredients, list) else (), start=1):
        if isinstance(source, dict):
            problems += unknown_keys(source, ("ref", "sha256"), f"ingredient {i}: ")
    if isinstance(statistics, dict):
        problems += unknown_keys(statistics, ("policy", "base"), "buffers: ")
    return problems


def _selection(value: Mapping[str, Any]) -> Selection:
    k = len(value["ingredients"])
    copied = {_text(name): _index(i) for name, i in value.get("copied", {}).items()}
    if not all(0 <= i < k for i in copied.values()):
        raise ValueError("copies from an ingredient that is not listed")
    return Selection(copied, frozenset(_text(name) for name in value.get("skipped", [])))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _index(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _listed(row: Sequence[float]) -> str:
    return ", ".join(f"{w:.6g}" for w in row)

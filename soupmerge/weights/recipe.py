"""Recipe: the coefficients of a soup, with all that is needed to make it again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.storage.reading import read_json
from soupmerge.weights import buffers
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.groups import GROUPINGS, group_by, rows_of
from soupmerge.weights.ingredients import Ingredients

FORMAT = "soupmerge-recipe/1"
TOLERANCE = 1e-6
"""How far a row of coefficients may sum from 1: what writing them as decimals may cost."""


@dataclass(frozen=True)
class Source:
    """An ingredient: where it came from, and the hash of what was there."""

    ref: str
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """θ_soup[g] = Σ_k W[g, k] · θ_k[g], for a group of tensors g and an ingredient k.

    Attributes:
        sources: the K ingredients, in the order of the columns.
        groups: the names of the G groups, in the order of the rows.
        weights: W, ``(G, K)``; every row sums to 1, every entry is in [0, 1].
        by: the grouping: ``model``, ``module`` or ``tensor``.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters, constants and (policy ``base``) statistics come from.
        origin: who chose the coefficients: ``mix`` (by hand), ``grid`` or ``learn``.

    Raises:
        UsageError: a row does not sum to 1, or an entry is not in [0, 1]; all rows are listed.
    """

    sources: tuple[Source, ...]
    groups: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    by: str = "model"
    buffers: str = "average"
    base: int = 0
    origin: str = "mix"

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
        if self.by not in GROUPINGS:
            problems.append(f"no grouping {self.by!r}; {near_miss(str(self.by), GROUPINGS)}")
        if not self.groups:
            problems.append("no group of tensors")
        if self.buffers not in buffers.POLICIES:
            fix = near_miss(self.buffers, buffers.POLICIES)
            problems.append(f"no buffer policy {self.buffers!r}; {fix}")
        if not 0 <= self.base < len(self.sources):
            problems.append(f"base ingredient {self.base} is not one of {len(self.sources)}")
        if problems:
            raise UsageError("cannot be meant", problems=problems, where="coefficients")

    def _faults(self, group: str, row: Sequence[float]) -> list[str]:
        name = "" if group == "model" else f"{group}: "
        if len(row) != len(self.sources):
            return [f"{name}{len(self.sources)} checkpoints, {len(row)} coefficients"]
        if not all(math.isfinite(w) for w in row):
            return [f"{name}{_listed(row)} are not all finite"]
        if abs(sum(row) - 1) > TOLERANCE:
            fix = "write exact fractions such as 1/3,1/3,1/3"
            return [f"{name}{_listed(row)} sum to {sum(row):.6g}, not 1; {fix}"]
        if min(row) < 0 or max(row) > 1:
            return [f"{name}{_listed(row)} are not all between 0 and 1"]
        return []

    @classmethod
    def of(
        cls,
        pots: Ingredients,
        weights: Sequence[float] | Sequence[Sequence[float]],
        *,
        by: str = "model",
        buffers: str = "average",
        base: int = 0,
        origin: str = "mix",
    ) -> Recipe:
        """Return the recipe that mixes *pots* with *weights*, a row per group (or just one row)."""
        nested = any(isinstance(row, Sequence) for row in weights)
        table: Any = weights if nested else [weights]
        return cls(
            sources=tuple(Source(c.ref, c.sha256) for c in pots),
            groups=tuple(group_by(by, pots.mixed)),
            weights=tuple(tuple(float(w) for w in row) for row in table),
            by=by,
            buffers=buffers,
            base=base,
            origin=origin,
        )

    @classmethod
    def uniform(cls, pots: Ingredients, **policy: Any) -> Recipe:
        """Return the recipe of the uniform soup, (1/K) Σ θ_k."""
        return cls.of(pots, [1 / len(pots)] * len(pots), **policy)

    def rows_by_tensor(self, pots: Ingredients) -> dict[str, tuple[float, ...]]:
        """Return tensor name → its K coefficients, for every tensor of the soup.

        What is not mixed takes the base ingredient alone.

        Raises:
            InputError: the groups are not those of *pots*.
        """
        groups = group_by(self.by, pots.mixed)
        if tuple(groups) != self.groups:
            raise InputError(
                f"the recipe has {len(self.groups)} groups, these checkpoints {len(groups)} others",
                fix="use the checkpoints that it names",
            )
        rows = rows_of(groups, pots.infos, self.buffers)
        table = [*self.weights, self.mean_weights]
        alone = tuple(float(k == self.base) for k in range(len(self.sources)))
        return {name: table[rows[name]] if name in rows else alone for name in pots.infos}

    @property
    def mean_weights(self) -> tuple[float, ...]:
        """The K coefficients, averaged over groups: how much of each ingredient is in the soup."""
        return tuple(sum(column) / len(self.weights) for column in zip(*self.weights, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values; numbers survive exactly."""
        return {
            "format": FORMAT,
            "ingredients": [{"ref": s.ref, "sha256": s.sha256} for s in self.sources],
            "groups": self.by,
            "weights": {g: list(row) for g, row in zip(self.groups, self.weights, strict=True)},
            "buffers": {"policy": self.buffers, "base": self.base},
            "origin": self.origin,
        }

    @classmethod
    def from_json(cls, value: Any, *, where: object = None) -> Recipe:
        """Return the recipe that `to_json` wrote.

        Raises:
            InputError: *value* is no recipe of this version.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise InputError(f"is not a recipe (no format {FORMAT!r})", where=where)
        try:
            return cls(
                sources=tuple(
                    Source(_text(s["ref"]), _text(s["sha256"])) for s in value["ingredients"]
                ),
                groups=tuple(value["weights"].keys()),
                weights=tuple(tuple(float(w) for w in row) for row in value["weights"].values()),
                by=_text(value["groups"]),
                buffers=_text(value["buffers"]["policy"]),
                base=int(value["buffers"]["base"]),
                origin=_text(value.get("origin", "mix")),
            )
        except UsageError as error:
            raise InputError(str(error), where=where) from error
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"is a damaged recipe ({error!r})", where=where) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def read_recipe(path: Path | str) -> Recipe:
    """Return the recipe in the JSON file *path*, or in the notes of the soup *path*.

    Raises:
        InputError: the file is missing or holds no recipe.
    """
    if Path(path).suffix == ".safetensors":
        return Recipe.from_json(open_checkpoint(path).notes_of_soupmerge.get("recipe"), where=path)
    return Recipe.from_json(read_json(path), where=path)


def parse_weights(text: str) -> tuple[float, ...]:
    """Return the coefficients written in *text*: decimals or fractions between commas.

    Raises:
        UsageError: a coefficient is no number.

    Example:
        >>> parse_weights("1/2, 0.25,0.25")
        (0.5, 0.25, 0.25)
    """
    return tuple(float(exact(word, "coefficients")) for word in text.split(","))


def _listed(row: Sequence[float]) -> str:
    return ", ".join(f"{w:.6g}" for w in row)

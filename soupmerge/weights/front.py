"""Fronts: a recipe for every preference between objectives, in one small JSON file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from soupmerge.choices import FAMILIES, implementation
from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.storage.reading import unknown_keys
from soupmerge.weights.families import Family, Parameters, coefficients
from soupmerge.weights.recipe import TOLERANCE, Recipe
from soupmerge.weights.tensors import Array

FORMAT = "soupmerge-front/1"
KEYS = ("format", "objectives", "family", "parameters", "recipe")
ORIGIN = "front"
RESTORE = "use the front.json as soupmerge wrote it"

Preference: TypeAlias = float | str | Sequence[float] | Mapping[str, float]
"""How much each objective counts. With two objectives, one number is enough: the share of the
second. Otherwise there is a share for each, in their order or by name; shares sum to 1."""


@dataclass(frozen=True, eq=False)
class Front:
    """A family of recipes: coefficients as a function W(λ) of the preference between objectives.

    Attributes:
        objectives: the names of the T objectives, such as ``clean`` and ``linf:8/255``.
        family: the form of W(λ), one of `soupmerge.choices.FAMILIES`.
        parameters: the learned parameters of that form, name → float32 array.
        recipe: a recipe with the ingredients, groups, buffer policy and ledger of all points.

    Raises:
        UsageError: there are fewer than two objectives, two have one name, or the family is
            unknown.
        InputError: a parameter is missing, has another shape, or is not finite.

    Example:
        >>> recipe = sm.Recipe.uniform(ingredients)
        >>> logits = np.log([[[0.9, 0.1]], [[0.2, 0.8]]]).astype("float32")
        >>> front = Front(("clean", "linf:0.1"), "softmax-linear", {"logits": logits}, recipe)
        >>> [[round(w, 3) for w in front.at(share).weights[0]] for share in (0, 0.5, 1)]
        [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]
    """

    objectives: tuple[str, ...]
    family: str
    parameters: Mapping[str, Array]
    recipe: Recipe

    def __post_init__(self) -> None:
        names = self.objectives
        if len(names) < 2 or len(set(names)) < len(names):
            what = f"a front needs two or more distinct objectives, not {', '.join(names)}"
            raise UsageError(what, where="objective", fix="give --objective clean and a threat")
        logits = np.zeros((len(names), len(self.recipe.groups), len(self.recipe.sources)))
        start = _form(self.family).start(logits)
        expected = {name: array.shape for name, array in start.items()}
        given = {name: array.shape for name, array in self.parameters.items()}
        if given != expected:
            what = f"has parameters of the shapes {given}, expected {expected}"
            raise InputError(what, where=ORIGIN, fix=RESTORE)
        if not all(np.isfinite(array).all() for array in self.parameters.values()):
            what = "has parameters that are NaN or Inf"
            raise InputError(what, where=ORIGIN, fix=RESTORE)

    def at(self, preference: Preference) -> Recipe:
        """Return the recipe at *preference*: the same bits for the same preference, always.

        Args:
            preference: a share of the second of two objectives, ``0.6``; or shares of all
                objectives that sum to 1, as a sequence, as a mapping from names, or as text.

        Raises:
            UsageError: a share is negative, names no objective, or the shares do not sum to 1.
        """
        shares = self.shares(preference)
        point = {"sha256": self.sha256, "at": dict(zip(self.objectives, shares, strict=True))}
        recipe = recipe_at(self.recipe, self.family, self.parameters, shares)
        return dataclasses.replace(recipe, origin=ORIGIN, front=point)

    def shares(self, preference: Preference) -> tuple[float, ...]:
        """Return *preference* as the T shares of all objectives.

        Raises:
            UsageError: as `at`.
        """
        if isinstance(preference, Mapping):
            for name in preference:
                if name not in self.objectives:
                    what = f"no objective {name!r}"
                    raise UsageError(what, where="at", fix=near_miss(name, self.objectives))
            words = [str(preference.get(name, 0)) for name in self.objectives]
        elif isinstance(preference, Sequence) and not isinstance(preference, str):
            words = [str(share) for share in preference]
        else:
            words = str(preference).split(",")
        if words == [""]:
            fix = "give --at 0.6, say, or write front.json@0.6"
            raise UsageError("a front holds many soups", where="at", fix=fix)
        shares = [exact(word, "at") for word in words]
        if len(shares) == 1 and len(self.objectives) == 2:
            shares = [1 - shares[0], shares[0]]
        if (
            len(shares) != len(self.objectives)
            or min(shares) < 0
            or abs(float(sum(shares)) - 1) > TOLERANCE
        ):
            one = f"a share of {self.objectives[1]} from 0 to 1, or "
            fix = f"give {one if len(self.objectives) == 2 else ''}{len(self.objectives)} shares"
            what = f"{','.join(words)!r} is not a preference between {', '.join(self.objectives)}"
            raise UsageError(what, where="at", fix=f"{fix} that sum to 1")
        return tuple(float(share) for share in shares)

    @cached_property
    def sha256(self) -> str:
        """The hash of the front, whatever the folders of its ingredients are called."""
        value = {**self.to_json(), "recipe": self.recipe.portable().to_json()}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the front as JSON values; numbers are preserved exactly."""
        return {
            "format": FORMAT,
            "objectives": list(self.objectives),
            "family": self.family,
            "parameters": {name: array.tolist() for name, array in self.parameters.items()},
            "recipe": self.recipe.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any, *, where: object = None) -> Front:
        """Return the front that `to_json` wrote.

        Raises:
            InputError: *value* is not a front of this version, or is damaged.
        """
        form = value.get("format") if isinstance(value, dict) else None
        if form != FORMAT:
            newer = isinstance(form, str) and form.startswith("soupmerge-front/")
            fix = "use a newer soupmerge" if newer else "give the front.json of soupmerge front"
            raise InputError(f"is not a front of format {FORMAT!r}", where=where, fix=fix)
        if problems := unknown_keys(value, KEYS):
            what, fix = "has unknown keys", "correct or remove them"
            raise InputError(what, problems=problems, where=where, fix=fix)
        try:
            names, parameters = value["objectives"], value["parameters"]
            return cls(
                tuple(str(name) for name in names),
                str(value["family"]),
                {str(k): np.asarray(v, dtype=np.float32) for k, v in parameters.items()},
                Recipe.from_json(value["recipe"], where=where),
            )
        except (UsageError, InputError) as error:
            listed = error.problems
            raise InputError(error.what, problems=listed, where=where, fix=RESTORE) from error
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"is damaged ({error!r})", where=where, fix=RESTORE) from error


def recipe_at(
    recipe: Recipe, family: str, parameters: Parameters, shares: Sequence[float]
) -> Recipe:
    """Return *recipe* with the coefficients of *family* at the preference *shares* ``(T,)``.

    They are computed in float64 from *parameters*, arrays in float32.
    """
    form = _form(family)
    wide = {name: array.astype(np.float64) for name, array in parameters.items()}
    rows = coefficients(form, form.rows(wide, shares, np), np).tolist()
    return dataclasses.replace(recipe, weights=tuple(map(tuple, rows)), affine=form.affine)


def _form(family: str) -> Family:
    form: Family = implementation(FAMILIES, family, "family")()
    return form

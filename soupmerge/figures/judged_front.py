"""The judged points of a front, the soups beside them, and its coefficients by depth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soupmerge.errors import printable
from soupmerge.figures.reading import RunRecord, depth
from soupmerge.numbers import exact

if TYPE_CHECKING:
    from soupmerge.weights.front import Front, Preference

UNIFORM = "uniform"
INGREDIENT = "ingredient"


@dataclass(frozen=True)
class JudgedFront:
    """A front, and what its run has judged of it so far.

    Attributes:
        front: a recipe for every preference between the objectives.
        points: records of the judged points; with two objectives, in the order of λ, which is the
            share of the second.
        beside: name → record of another soup: the ingredients, by their short names, the uniform
            soup, and those that were given.
        ingredients: the names of the ingredients.
    """

    front: Front
    points: list[dict[str, Any]]
    beside: dict[str, dict[str, Any]]
    ingredients: list[str]

    @property
    def count(self) -> int:
        """The number T of objectives."""
        return len(self.front.objectives)

    @property
    def axes(self) -> tuple[str, str]:
        """The metrics of a figure: those of two objectives, or else clean and the last metric."""
        metrics = list(self.points[0]["metrics"])
        judged = [name for name in self.front.objectives if name in metrics]
        return (judged[0], judged[1]) if len(judged) > 1 else ("clean", metrics[-1])

    def shares(self, record: dict[str, Any]) -> tuple[float, ...]:
        """Return the preference ``(T,)`` of one of the points."""
        return tuple(record["recipe"]["front"]["at"][name] for name in self.front.objectives)

    def kind(self, name: str) -> str:
        """Return what the soup *name* is: an ingredient, the uniform soup, or else its origin."""
        if name == UNIFORM or name in self.ingredients:
            return UNIFORM if name == UNIFORM else INGREDIENT
        return str(self.beside[name]["recipe"]["origin"])


def judged_front(run: RunRecord) -> JudgedFront | None:
    """Return the front of *run* with its judged soups; None if it has judged no point of one.

    A soup that was judged under several names is listed under the first.
    """
    points = [r for r in run.soups if r.get("recipe", {}).get("front")]
    if run.front is None or not points:
        return None
    if len(run.front.objectives) == 2:
        second = run.front.objectives[1]
        points.sort(key=lambda record: record["recipe"]["front"]["at"][second])
    others: dict[str, list[dict[str, Any]]] = {}
    for record in (record for record in run.soups if record not in points):
        others.setdefault(_key(record["recipe"]["weights"]), []).append(record)
    beside, named = {}, {name: _key(rows) for name, rows in _rows_beside(run).items()}
    for name, key in named.items():
        if others.get(key):  # several, if they differ in their statistics
            beside[name] = others[key].pop(0)
    return JudgedFront(run.front, points, beside, run.names)


def is_trade_off(run: RunRecord) -> bool:
    """Return whether *run* is of a front between two objectives: a curve with a parameter λ."""
    return run.front is not None and len(run.front.objectives) == 2


def _rows_beside(run: RunRecord) -> dict[str, dict[str, list[float]]]:
    """Return name → coefficients of the soups that `soupmerge.front` judges beside the points."""
    k = len(run.names)
    alone = {name: {"model": [float(i == j) for j in range(k)]} for i, name in enumerate(run.names)}
    given = {printable(name): rows for name, rows in (run.manifest.get("beside") or {}).items()}
    return {**alone, UNIFORM: {"model": [1 / k] * k}, **given}


def _key(rows: dict[str, list[float]]) -> str:
    return json.dumps([[float(w) for w in row] for row in rows.values()])


def by_depth(front: Front, at: Preference) -> tuple[list[str], list[list[float]]]:
    """Return the groups in order of depth, and W ``(G, K)`` at the preference *at*."""
    recipe = front.at(at)
    rows = dict(zip(recipe.groups, recipe.weights, strict=True))
    groups = sorted(rows, key=depth)
    return [printable(group) for group in groups], [list(rows[group]) for group in groups]


def name_of_point(shares: Sequence[float]) -> str:
    """Return the name of a point of a front: λ, the share of the second of two objectives.

    Example:
        >>> name_of_point((0.4, 0.6)), name_of_point((0.5, 0.25, 0.25))
        ('λ = 0.6', 'λ = (0.5, 0.25, 0.25)')
    """
    if len(shares) == 2:
        return f"λ = {shares[1]:.3g}"
    return f"λ = ({', '.join(f'{share:.3g}' for share in shares)})"


def at_option(shares: Sequence[float]) -> str:
    """Return *shares* as ``--at`` takes them, so that exactly these are read back.

    Example:
        >>> at_option((0.4, 0.6)), at_option((0.5, 0.25, 0.25))
        ('0.6', '0.5,0.25,0.25')
    """
    words = [_shortest(float(share)) for share in shares]
    if len(words) == 2 and float(1 - exact(words[1], "at")) == shares[0]:
        return words[1]
    return ",".join(words)


def _shortest(share: float) -> str:
    word = f"{share:g}"
    return word if float(word) == share else repr(share)

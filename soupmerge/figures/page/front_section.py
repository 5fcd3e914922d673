"""The part of a page that shows a front: any of its soups, chosen by the preference λ."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from soupmerge.errors import printable
from soupmerge.figures.judged_front import (
    JudgedFront,
    at_option,
    by_depth,
    judged_front,
    name_of_point,
)
from soupmerge.figures.page.commands import quote
from soupmerge.figures.palette import pretty
from soupmerge.figures.reading import FRONT, RunRecord

if TYPE_CHECKING:
    from soupmerge.weights.front import Front

STEPS, FEW_STEPS = 100, 20
"""Steps of the slider over λ; and of one whose coefficients would otherwise be too many."""

MOST_NUMBERS = 400_000
"""Most coefficients on a page for one front, about two megabytes."""

SCALE = 1000
"""Coefficients are whole thousandths on the page."""

ROW, MOST_HEIGHT = 15, 660
"""Height of a row of the map of coefficients, and most of all rows, in pixels."""


def front_data(
    run: RunRecord, number: int, places: Mapping[int, int], metrics: Mapping[str, int]
) -> dict[str, Any] | None:
    """Return what the script of the page needs to show the front of *run*, its *number*-th run.

    With two objectives, there is a position of the slider for every step of λ and for every judged
    point. With more, there is one for every judged point, or for every end if none is judged.

    Args:
        places: identity of a record → its place among the soups of the page.
        metrics: metric → its place among the metrics of the page.
    """
    if run.front is None:
        return None
    judged, front = judged_front(run), run.front
    positions = _positions(front, judged)
    tables = [by_depth(front, shares) for shares in positions]
    groups = tables[0][0]
    rows = [[[round(w * SCALE) for w in row] for row in table] for _, table in tables]
    soups = {} if judged is None else {judged.shares(r): places[id(r)] for r in judged.points}
    beside = {} if judged is None else judged.beside
    return {
        "run": number,
        "objectives": [printable(pretty(name)) for name in front.objectives],
        "at": positions,
        "names": [name_of_point(shares) for shares in positions],
        "options": [at_option(shares) for shares in positions],
        "judged": [soups.get(shares) for shares in positions],
        "beside": [places[id(record)] for record in beside.values()],
        "axes": [] if judged is None else [metrics[metric] for metric in judged.axes],
        "groups": groups,
        "coefficients": rows,
        "scale": SCALE,
        "least": min(0, *(min(row) for table in rows for row in table)),
        "most": max(SCALE, *(max(row) for table in rows for row in table)),
        "every": -(-len(groups) * ROW // MOST_HEIGHT),
        "command": f"soupmerge mix --recipe {quote(str(run.path / FRONT))}",
    }


def _positions(front: Front, judged: JudgedFront | None) -> list[tuple[float, ...]]:
    """Return the preferences ``(T,)`` that the page offers."""
    known = [] if judged is None else [judged.shares(record) for record in judged.points]
    count = len(front.objectives)
    if count > 2:
        ends = [tuple(float(s == t) for s in range(count)) for t in range(count)]
        return known or ends
    size = len(front.recipe.groups) * len(front.recipe.sources)
    steps = STEPS if size * (STEPS + 1) <= MOST_NUMBERS else FEW_STEPS
    every = {step / steps: front.shares(step / steps) for step in range(steps + 1)}
    every |= {shares[1]: shares for shares in known}
    return [every[share] for share in sorted(every)]


def names_of_soups(run: RunRecord) -> dict[int, dict[str, str]]:
    """Return the identity of a record → the name and kind of its soup, of all soups of a front."""
    judged = judged_front(run)
    if judged is None:
        return {}
    found = {
        id(record): {"name": name, "kind": judged.kind(name)}
        for name, record in judged.beside.items()
    }
    points = {id(r): name_of_point(judged.shares(r)) for r in judged.points}
    return found | {key: {"name": name, "kind": "front"} for key, name in points.items()}


def section(front: Mapping[str, Any], number: int, run: str) -> str:
    """Return the section of the page for *front*, the *number*-th; the script fills it.

    Args:
        front: what `front_data` returned.
        run: the title of its run, if the page has several.
    """
    objectives = front["objectives"]
    listed = f"{', '.join(objectives[:-1])} and {objectives[-1]}"
    title = f"Front between {listed}" + (f", {run}" if run else "")
    name = f"front-{number}"
    height = 120 + min(ROW * len(front["groups"]), MOST_HEIGHT)
    hidden = "" if any(place is not None for place in front["judged"]) else " hidden"
    return f"""<section class="front" id="{name}" aria-labelledby="{name}-heading">
<h2 id="{name}-heading">{_e(title)}</h2>
<p class="quiet" id="{name}-help">{_e(_about(objectives))}</p>
<div class="bar chooser">{_chooser(front, name)}</div>
<div class="two">
<div id="{name}-map" class="map" role="img" aria-label="Map of the front"{hidden}></div>
<section id="{name}-detail" class="detail" aria-label="The chosen point of the front"></section>
</div>
<h3>Coefficients by depth, <span id="{name}-here"></span></h3>
<div id="{name}-heat" class="flat" style="height: {height}px" role="img"
 aria-label="Coefficients of each group and ingredient; the table below has the same numbers"></div>
<details id="{name}-numbers"><summary>Show as a table</summary><div class="wide"></div></details>
</section>
"""


def _about(objectives: Sequence[str]) -> str:
    if len(objectives) == 2:
        return (
            f"λ is the share of {objectives[1]}: at 0, only {objectives[0]} counts. Accuracies at "
            "judged points were measured; between them, they are interpolated and marked with ≈."
        )
    return (
        f"λ has the shares of {', '.join(objectives)}, in this order. Choose a judged point from "
        "the list or by a click on the map."
    )


def _chooser(front: Mapping[str, Any], name: str) -> str:
    """Return the control that chooses a position: a slider over λ, or a list of points."""
    if len(front["objectives"]) > 2:
        options = "".join(
            f'<option value="{i}">{_e(text)}</option>' for i, text in enumerate(front["names"])
        )
        shade = f'<label>shaded by <select id="{name}-metric"></select></label>'
        more = shade if len(front["objectives"]) == 3 and front["axes"] else ""
        return f'<label>point <select id="{name}-at">{options}</select></label>\n{more}'
    last = len(front["names"]) - 1
    marks = "".join(
        f'<option value="{i}"></option>'
        for i, place in enumerate(front["judged"])
        if place is not None
    )
    first, second = map(_e, front["objectives"])
    hidden = "" if marks else " hidden"
    return f"""
<span class="slider"><span aria-hidden="true">{first}</span>
<input type="range" id="{name}-at" min="0" max="{last}" step="1" value="{last // 2}"
 list="{name}-judged" aria-label="λ, share of {second}" aria-describedby="{name}-help">
<datalist id="{name}-judged">{marks}</datalist>
<span aria-hidden="true">{second}</span></span>
<output id="{name}-value" for="{name}-at"></output>
<button type="button" id="{name}-back"{hidden}>← judged point</button>
<button type="button" id="{name}-on"{hidden}>judged point →</button>
"""


def _e(text: object) -> str:
    return html.escape(printable(text))

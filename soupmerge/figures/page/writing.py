"""Runs → one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from soupmerge.errors import InputError, OutputError, printable
from soupmerge.figures.page.contents import contents, told_notes
from soupmerge.figures.page.making import quoted
from soupmerge.figures.page.panels import Panel, panels
from soupmerge.figures.reading import BARRIERS, HISTORY, RECIPE, TRIALS, RunRecord, name_of, remarks
from soupmerge.storage import commit, reading
from soupmerge.storage.run import MANIFEST

MARK = '<meta name="generator" content="soupmerge report">'
"""Stands in every page of ours, near its beginning."""

NEAR = 1024
SCRIPTS = ("core.js", "map.js", "detail.js", "table.js", "start.js")
"""In order: they are one script, in which names are common and nobody else's."""


def write_page(runs: Sequence[RunRecord], out: Path, *, force: bool = False) -> str:
    """Put the page of *runs* at *out*, and return its path; an earlier page of ours is replaced.

    Raises:
        OutputError: something else is at *out* (without *force*), or it cannot be written.
    """
    check_page(out, force=force)
    commit.write_text(out, page(runs), force=True)
    return str(out)


def check_page(out: Path, *, force: bool = False) -> None:
    """Refuse to replace what is no page of ours.

    Raises:
        OutputError: as it says.
    """
    commit.check_free(out, force=True)
    if (
        out.exists()
        and not force
        and MARK.encode() not in reading.StableFile.seen(out).read(0, NEAR)
    ):
        fix = "choose another -o, or give --force"
        raise OutputError("exists already and is no page of soupmerge's", where=out, fix=fix)


def page(runs: Sequence[RunRecord]) -> str:
    """Return the page of *runs* as HTML; equal files give equal bytes."""
    told = contents(runs)
    if not told["soups"] and not told["panels"]:
        where = ", ".join(str(run.path) for run in runs)
        what, fix = "holds nothing finished to show", "show it when it has judged or learned"
        raise InputError(what, where=where, fix=fix)
    own = "\n".join(map(_asset, SCRIPTS))
    scripts = [_plotly(), f'"use strict";\n(() => {{\n{own}}})();\n']
    titles = ", ".join(run.title for run in runs)
    return Template(_asset("page.html")).substitute(
        mark=MARK,
        policy=_policy(scripts),
        title=html.escape(f"Report on {titles}"),
        style=_asset("page.css"),
        summary="".join(map(_summary, runs)),
        remarks=_items("remarks", _remarks(runs, told)),
        hidden="" if told["soups"] else " hidden",
        panels=f'<div class="panels">\n{"".join(_panels(runs))}</div>',
        doubts=_doubts(runs),
        settings=_settings(runs),
        data=_inert(told),
        plotly=scripts[0],
        script=scripts[1],
    )


def _policy(scripts: Iterable[str]) -> str:
    """Return a policy under which these scripts run, no other does, and nothing is fetched."""
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # Plotly sets styles on what it draws, and draws a heat map as an image of its own.
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # A browser reads line ends so, and hashes what it reads.
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _inert(value: Any) -> str:
    """Return *value* as JSON in which nothing ends a script or begins a tag."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(run: RunRecord) -> str:
    ingredients = ", ".join(run.names)
    judged = len(run.soups) + len(run.judged)
    said = [f"<strong>{_e(run.title)}</strong>: {len(run.names)} networks ({_e(ingredients)})"]
    said += [f"{judged:,} judged"] if judged else []
    said += [f"{len(run.history)} epochs of learning"] if run.history else []
    text = f"<p>{'; '.join(said)}.</p>\n"
    if run.recipe is None:
        return text
    command = f"soupmerge mix --recipe {quoted(str(run.path / RECIPE))} -o soup.safetensors"
    return f"{text}<p>The soup that it chose is made again by</p><pre>{_e(command)}</pre>\n"


def _remarks(runs: Sequence[RunRecord], told: dict[str, Any]) -> Iterator[str]:
    for run in runs:
        yield from (f"{run.title}: {remark}" for remark in remarks(run))
    if len(told["judges"]) > 1:
        yield (
            "Not all were judged on the same images by the same attacks: what tells them apart may "
            "be that, and not the soup. The judge is named beside each."
        )


def _doubts(runs: Sequence[RunRecord]) -> str:
    found = [
        f"{name_of(record, run.judged) if 'ref' in record else run.title}: {line}"
        for run in runs
        for record in (*run.soups, *run.judged)
        for line in told_notes(record.get("notes") or {})
    ]
    found += [
        f"{run.title}, the chosen soup: {line}"
        for run in runs
        for line in told_notes({"doubts": run.doubts or ()})
    ]
    examined = any(run.manifest.get("doubts") or run.doubts is not None for run in runs)
    none = (
        "None was found, which is no proof: soupmerge looked for them (docs/flags.md)."
        if examined
        else "Nobody looked for reasons to doubt the figures: soupmerge eval --doubts does."
    )
    listed = _items("remarks", found) if found else f"<p>{none}</p>"
    heading = '<h2 id="doubts-heading">Doubts and notes</h2>'
    return f'<section aria-labelledby="doubts-heading">\n{heading}\n{listed}</section>'


def _panels(runs: Sequence[RunRecord]) -> Iterator[str]:
    number = 0
    for run in runs:
        for panel in panels(run):
            yield _panel(panel, number, run.title if len(runs) > 1 else "")
            number += 1


def _panel(panel: Panel, number: int, run: str) -> str:
    title = f"{panel.title}, {run}" if run else panel.title
    head = "".join(f'<th scope="col">{_e(cell)}</th>' for cell in panel.header)
    rows = "".join(
        f'<tr><th scope="row">{_e(row[0])}</th>'
        + "".join(f'<td class="n">{_e(cell)}</td>' for cell in row[1:])
        + "</tr>\n"
        for row in panel.rows
    )
    height = panel.layout.get("height")
    tall = f' style="height: {height}px"' if height else ""
    return (
        f'<section aria-labelledby="panel-{number}-heading"{" class=tall" if tall else ""}>\n'
        f'<h2 id="panel-{number}-heading">{_e(title)}</h2>\n<p>{_e(panel.about)}</p>\n'
        f'<div id="panel-{number}" class="flat"{tall} role="img"'
        f' aria-label="{_e(panel.about)}"></div>\n'
        "<details><summary>The same as a table</summary>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
        "</div></details>\n</section>\n"
    )


def _settings(runs: Sequence[RunRecord]) -> str:
    """Return every line of the manifests as a table; where runs differ, it is marked."""
    columns = [dict(_lines(run.manifest)) | _hashes(run) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    titles = "".join(f'<th scope="col">{_e(run.title)}</th>' for run in runs)
    rows = []
    for key in keys:
        shown = "".join(f"<td>{_e(column.get(key, '–'))}</td>" for column in columns)
        differ = len({column[key] for column in columns if key in column}) > 1
        mark = ' class="other"' if differ else ""
        name = f"{_e(key)}{' (they differ)' if differ else ''}"
        rows.append(f'<tr{mark}><th scope="row">{name}</th>{shown}</tr>\n')
    head = f'<thead><tr><th scope="col">setting</th>{titles}</tr></thead>'
    table = f'<table class="settings">{head}\n<tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _lines(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _lines(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value, start=1):
            yield from _lines(inner, f"{key}[{place}]")
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)


def _hashes(run: RunRecord) -> dict[str, str]:
    files = (MANIFEST, TRIALS, HISTORY, RECIPE, BARRIERS)
    there = [name for name in files if (run.path / name).exists()]
    return {
        f"sha256 of {name}": reading.StableFile.seen(run.path / name).sha256() for name in there
    }


def _items(kind: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_e(line)}</li>\n" for line in lines)
    return f'<ul class="{kind}">\n{items}</ul>\n' if items else ""


def _e(text: object) -> str:
    return html.escape(printable(text))

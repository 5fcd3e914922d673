"""Writes the page of runs: one HTML file that needs no network, no server and no other file."""

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
from soupmerge.figures.page import front_section
from soupmerge.figures.page.commands import quote
from soupmerge.figures.page.contents import contents, note_lines
from soupmerge.figures.page.panels import Panel, panels
from soupmerge.figures.reading import BARRIERS, HISTORY, RECIPE, TRIALS, RunRecord, name_of
from soupmerge.figures.remarks import remarks
from soupmerge.storage import commit, reading
from soupmerge.storage.names import FRONT, MANIFEST

MARK = '<meta name="generator" content="soupmerge report">'
"""Marks every page that soupmerge has written, within its first `MARK_WITHIN` bytes."""

MARK_WITHIN = 1024
SCRIPTS = ("core.js", "map.js", "detail.js", "table.js", "front.js", "start.js")
"""The parts of the page's script, in order; they share one scope."""


def write_page(runs: Sequence[RunRecord], out: Path, *, force: bool = False) -> str:
    """Write the page of *runs* to *out*, replacing an earlier page, and return its path.

    Raises:
        OutputError: *out* holds something else (without *force*), or cannot be written.
    """
    check_page(out, force=force)
    commit.write_text(out, page(runs), force=True)
    return str(out)


def check_page(out: Path, *, force: bool = False) -> None:
    """Check that the page may be written to *out*.

    Raises:
        OutputError: *out* is a file that is not a page of soupmerge (without *force*), or a folder.
    """
    commit.check_free(out, force=True)
    if force or not out.exists():
        return
    if MARK.encode() not in reading.StableFile.seen(out).read(0, MARK_WITHIN):
        fix = "choose another -o, or give --force"
        raise OutputError("exists and is not a page written by soupmerge", where=out, fix=fix)


def page(runs: Sequence[RunRecord]) -> str:
    """Return the page of *runs* as HTML; the same files give the same bytes.

    Raises:
        InputError: the runs have no results yet.
    """
    data = contents(runs)
    if not data["soups"] and not data["panels"] and not data["fronts"]:
        where = ", ".join(str(run.path) for run in runs)
        fix = "report on it after it has judged or learned something"
        raise InputError("no results to show yet", where=where, fix=fix)
    own = "\n".join(map(_asset, SCRIPTS))
    scripts = [_plotly(), f'"use strict";\n(() => {{\n{own}}})();\n']
    titles = ", ".join(run.title for run in runs)
    return Template(_asset("page.html")).substitute(
        mark=MARK,
        policy=_policy(scripts),
        title=html.escape(f"Report on {titles}"),
        style=_asset("page.css"),
        summary="".join(map(_summary, runs)),
        remarks=_items("remarks", _remarks(runs, data)),
        fronts="".join(_fronts(runs, data)),
        hidden="" if data["soups"] else " hidden",
        panels=f'<div class="panels">\n{"".join(_panels(runs))}</div>',
        doubts=_doubts(runs),
        settings=_settings(runs),
        data=_embedded(data),
        plotly=scripts[0],
        script=scripts[1],
    )


def _policy(scripts: Iterable[str]) -> str:
    """Return a policy that lets only these scripts run, and nothing be fetched."""
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # Plotly sets inline styles, and draws heat maps as embedded images.
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # Browsers normalise line ends before they compare the hash.
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """Return *value* as JSON without characters that could end a script or begin a tag."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(run: RunRecord) -> str:
    ingredients = ", ".join(run.names)
    judged = len(run.soups) + len(run.judged)
    parts = [f"<strong>{_e(run.title)}</strong>: {len(run.names)} networks ({_e(ingredients)})"]
    parts += [f"{judged:,} judged"] if judged else []
    parts += [f"{len(run.history)} epochs of learning"] if run.history else []
    text = f"<p>{'; '.join(parts)}.</p>\n"
    if run.recipe is None:
        return text
    command = f"soupmerge mix --recipe {quote(str(run.path / RECIPE))} -o soup.safetensors"
    return f"{text}<p>To make its chosen soup again:</p><pre>{_e(command)}</pre>\n"


def _remarks(runs: Sequence[RunRecord], data: dict[str, Any]) -> Iterator[str]:
    for run in runs:
        yield from (f"{run.title}: {remark}" for remark in remarks(run))
    if len(data["judges"]) > 1:
        yield (
            "Not all soups were judged on the same images by the same attacks, which alone can "
            "make their accuracies differ. The images and attacks are named beside each soup."
        )


def _doubts(runs: Sequence[RunRecord]) -> str:
    lines = [
        f"{name_of(record, run.judged) if 'ref' in record else run.title}: {line}"
        for run in runs
        for record in (*run.soups, *run.judged)
        for line in note_lines(record.get("notes") or {})
    ]
    lines += [
        f"{run.title}, the chosen soup: {line}"
        for run in runs
        for line in note_lines({"doubts": run.doubts or ()})
    ]
    checked = any(run.manifest.get("doubts") or run.doubts is not None for run in runs)
    none = (
        "The checks of docs/flags.md found no reason to doubt the accuracies, which proves nothing."
        if checked
        else "The accuracies were not checked for doubts: soupmerge eval --doubts does so."
    )
    listed = _items("remarks", lines) if lines else f"<p>{none}</p>"
    heading = '<h2 id="doubts-heading">Doubts and notes</h2>'
    return f'<section aria-labelledby="doubts-heading">\n{heading}\n{listed}</section>'


def _fronts(runs: Sequence[RunRecord], data: dict[str, Any]) -> Iterator[str]:
    for number, front in enumerate(data["fronts"]):
        title = runs[front["run"]].title if len(runs) > 1 else ""
        yield front_section.section(front, number, title)


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
        "<details><summary>Show as a table</summary>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
        "</div></details>\n</section>\n"
    )


def _settings(runs: Sequence[RunRecord]) -> str:
    """Return every setting of the manifests as a table that marks where runs differ."""
    columns = [dict(_flattened(run.manifest)) | _hashes(run) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    titles = "".join(f'<th scope="col">{_e(run.title)}</th>' for run in runs)
    rows = []
    for key in keys:
        cells = "".join(f"<td>{_e(column.get(key, '–'))}</td>" for column in columns)
        differ = len({column[key] for column in columns if key in column}) > 1
        mark = ' class="other"' if differ else ""
        name = f"{_e(key)}{' (they differ)' if differ else ''}"
        rows.append(f'<tr{mark}><th scope="row">{name}</th>{cells}</tr>\n')
    head = f'<thead><tr><th scope="col">setting</th>{titles}</tr></thead>'
    table = f'<table class="settings">{head}\n<tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _flattened(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a JSON value, each with its path."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flattened(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value, start=1):
            yield from _flattened(inner, f"{key}[{place}]")
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)


def _hashes(run: RunRecord) -> dict[str, str]:
    files = (MANIFEST, TRIALS, HISTORY, RECIPE, BARRIERS, FRONT)
    return {
        f"sha256 of {name}": reading.StableFile.seen(run.path / name).sha256()
        for name in files
        if (run.path / name).exists()
    }


def _items(kind: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_e(line)}</li>\n" for line in lines)
    return f'<ul class="{kind}">\n{items}</ul>\n' if items else ""


def _e(text: object) -> str:
    return html.escape(printable(text))

"""CSV tables whose cells no spreadsheet interprets as formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from soupmerge.types import Examples


def images_table(data: Examples) -> str:
    """Return the ids and labels of *data* as CSV."""
    return csv_text(["id", "label"], zip(data.ids, data.labels.tolist(), strict=True))


def csv_text(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return *rows* under *header* as CSV."""
    text = io.StringIO()
    usual = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    usual.writerow(header)
    for row in rows:
        cells = list(map(_plain, row))
        # Python quotes cells that contain the line ending it writes, but no other line ending.
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if has_return else usual).writerow(cells)
    return text.getvalue()


FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Beginnings of cells that a spreadsheet may interpret as formulas."""


def _plain(cell: object) -> object:
    """Return *cell*, with a quote before a formula: file names may come from anyone."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell

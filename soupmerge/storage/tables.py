"""Tables for spreadsheets: CSV whose cells no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from soupmerge.types import Examples


def images_table(data: Examples) -> str:
    """Return ids and labels of *data* as CSV: which images were used."""
    return csv_text(["id", "label"], zip(data.ids, data.labels.tolist(), strict=True))


def csv_text(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return *rows* under *header* as CSV."""
    text = io.StringIO()
    usual = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    usual.writerow(header)
    for row in rows:
        cells = list(map(_plain, row))
        # Python quotes the end of a line that it writes itself, but not the other one.
        broken = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if broken else usual).writerow(cells)
    return text.getvalue()


FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet takes for a formula, or looks behind for one."""


def _plain(cell: object) -> object:
    """Return *cell* as no spreadsheet takes for a formula: names of files are anyone's."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell

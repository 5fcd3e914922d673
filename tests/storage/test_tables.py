"""CSV tables: read back as they were written, and without formulas."""

from __future__ import annotations

import csv
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.storage.tables import csv_text, images_table

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_texts_are_read_back_with_formulas_quoted(rows: list[tuple[str, str]]) -> None:
    header, *got = read(csv_text(["a", "b"], rows))
    assert header == ["a", "b"]
    assert len(got) == len(rows)
    for cells, row in zip(got, rows, strict=True):
        for cell, text in zip(cells, row, strict=True):
            risky = text[:1] in tuple("=+-@\t\r\n") and text != ""
            assert cell == (f"'{text}" if risky else text)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_text_begins_like_a_formula(start: str) -> None:
    ((cell,),) = read(csv_text(["x"], [[f"{start}1+1"]]))[1:]
    assert cell == f"'{start}1+1"
    assert read(csv_text(["x"], [[f"1{start}1"]]))[1] == [f"1{start}1"]


def test_numbers_are_written_as_they_are() -> None:
    assert csv_text(["n", "x", "ok"], [[-1, -0.5, True]]) == "n,x,ok\n-1,-0.5,True\n"
    assert csv_text(["n", "x"], [["a\rb", -1]]) == 'n,x\n"a\rb",-1\n'
    assert csv_text(["n", "x"], [["a,b", 'c"d']]) == 'n,x\n"a,b","c""d"\n'


def test_images_are_listed_with_their_labels() -> None:
    images = sm.Images.of(torch.zeros(3, 1, 2, 2), torch.tensor([2, 0, 1]))
    assert read(images_table(images)) == [
        ["id", "label"],
        *([id, str(label)] for id, label in zip(images.ids, (2, 0, 1), strict=True)),
    ]

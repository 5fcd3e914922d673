"""Numbers are read exactly, in ASCII digits, within the range of a float; all else is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupmerge.errors import UsageError
from soupmerge.numbers import MOST, count, exact, is_decimal, size

OTHER_SCRIPTS = ("٨", "８", "८", "¹", "1٠", "٨/255", "8/٢", "1e٣", "१.५", "Ⅷ")
"""Arabic, full-width, Devanagari and superscript digits, and a Roman numeral in one character."""


@given(st.integers(0, 10**20 - 1), st.integers(1, 10**20 - 1))
def test_a_fraction_is_read_exactly(above: int, below: int) -> None:
    assert exact(f"{above}/{below}", "x") == Fraction(above, below)


@given(st.decimals(-(10**9), 10**9, places=9))
def test_a_decimal_is_read_exactly(number: object) -> None:
    assert exact(f" {number} ", "x") == Fraction(str(number))


@given(st.floats(min_value=1e-299, max_value=1e299))
def test_what_python_writes_for_a_float_is_read_as_that_float(number: float) -> None:
    for signed in (number, -number, 0.0):
        assert float(exact(repr(signed), "x")) == signed
        assert is_decimal(repr(signed))


@pytest.mark.parametrize(
    "text", [*OTHER_SCRIPTS, "", "-", ".", "1/0", "1//2", "1_0", "nan", "inf", "1e400", "1e1000"]
)
def test_what_is_no_number_is_refused_with_its_place_and_a_fix(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--eps: .*is not a number; .*8/255"):
        exact(text, "--eps")


@pytest.mark.parametrize("text", ["1e-400", "1e-301", "-1e-400", f"1e-299/{10**19}"])
def test_a_number_that_would_be_0_as_a_float_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number"):
        exact(text, "--eps")


def test_the_largest_and_the_smallest_number_are_floats() -> None:
    assert exact("1e300", "x") == MOST
    assert exact("1e-300", "x") == Fraction(1, MOST)
    with pytest.raises(UsageError):
        exact("1.1e300", "x")
    with pytest.raises(UsageError):
        exact("9e-301", "x")


def test_twenty_digits_are_read_and_no_more() -> None:
    assert exact("9" * 20, "x") == 10**20 - 1
    for text in ("9" * 21, "1." + "0" * 21, "." + "1" * 21, "1/" + "1" * 21):
        with pytest.raises(UsageError):
            exact(text, "x")


@pytest.mark.parametrize("text", [*OTHER_SCRIPTS, "", "+1", "-1", "1.0", " 1", "1_0", "1" * 19])
def test_a_count_is_1_to_18_ascii_digits(text: str) -> None:
    assert count(text) is None


@given(st.integers(0, 10**18 - 1))
def test_a_count_is_its_number(number: int) -> None:
    assert count(str(number)) == number


@pytest.mark.parametrize("text", [*OTHER_SCRIPTS, "", "1_0", "nan", "inf", "1/2", " 1", "0x10"])
def test_what_is_no_decimal(text: str) -> None:
    assert not is_decimal(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5000", 5000),
        ("7B", 7),
        ("2 kb", 2000),
        ("500MB", 500_000_000),
        ("3GB", 3_000_000_000),
        ("2KiB", 2048),
        (" 1.5 MiB ", 1_572_864),
        ("2GiB", 2_147_483_648),
        ("0.7B", 0),
    ],
)
def test_a_size_is_a_number_and_a_unit(text: str, wanted: int) -> None:
    assert size(text, "--max-shard-size") == wanted


@pytest.mark.parametrize("text", ["٥MB", "5TB", "MB", "-5MB", "1e3MB", "1.2.3MB", "5 M B"])
def test_what_is_no_size_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UsageError, match="--max-shard-size"):
        size(text, "--max-shard-size")

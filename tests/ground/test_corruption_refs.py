"""References to corrupted data sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupmerge.choices import IMAGENET_C, STRENGTHS, corruption_names
from soupmerge.corruption_refs import CorruptionRef, expanded
from soupmerge.errors import UsageError

DATA = st.sampled_from(["digits", "folder:a/b", "npz:x-1:y.npz", "mine.py:read"])


@given(st.sampled_from(corruption_names()), st.sampled_from(STRENGTHS), DATA)
def test_what_is_written_is_read(kind: str, strength: int, data: str) -> None:
    ref = CorruptionRef(kind, strength, data)
    assert CorruptionRef.parse(str(ref)) == ref
    assert CorruptionRef.parse(str(ref).replace("_", "-")) == ref


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("blur-3:folder:a:b", ("blur", 3, "folder:a:b")),
        ("gaussian-noise-1:digits", ("gaussian_noise", 1, "digits")),
        ("folder:blur-3", None),
        ("digits", None),
        ("blur:digits", None),
        ("blur-3", None),
        ("Blur-3:digits", None),
        ("blur-3:", None),
    ],
)
def test_references_by_their_form(ref: str, found: tuple[str, int, str] | None) -> None:
    assert CorruptionRef.parse(ref) == found


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("blur-0:digits", ("no strength '0'", "give 1 to 5")),
        ("blur-6:digits", ("no strength '6'", "give 1 to 5")),
        ("blur-03:digits", ("no strength '03'",)),
        ("blur-x:digits", ("no strength 'x'",)),
        ("blurr-3:digits", ("unknown corruption 'blurr'", "'blur'")),
        ("gausian-noise-3:digits", ("unknown corruption 'gausian-noise'", "'gaussian_noise'")),
        ("blur-1:noise-2:digits", ("only once", "leave out blur-1")),
        ("fog-1:glass-blur-2:digits", ("only once", "leave out fog-1")),
    ],
)
def test_references_that_cannot_be_meant(ref: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        CorruptionRef.parse(ref)
    assert all(word in str(caught.value) for word in words)


def test_all_corruptions_of_a_set() -> None:
    found = expanded(["corruptions:folder:a", "blur-1:digits", "corruptions:", "corruptions"])
    parsed = [CorruptionRef.parse(ref) for ref in found[:75]]
    expected = [(kind, s, "folder:a") for kind in IMAGENET_C for s in range(1, 6)]
    assert parsed == expected
    assert found[75:] == ("blur-1:digits", "corruptions:", "corruptions")

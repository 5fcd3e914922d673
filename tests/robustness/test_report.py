"""What is counted of flags: accuracies, intervals, unions, and the form in which they are kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.robustness.report import Recorded, Report, told_apart_by, wilson

ATTACKS = {
    "linf:0.1": {"attack": "apgd-ce", "steps": 3},
    "l2:0.5": {"attack": "pgd-ce", "steps": 20, "step": 0.1},
}
FLAGS = {
    "clean": [True] * 7 + [False] * 3,
    "linf:0.1": [True] * 5 + [False] * 5,
    "l2:0.5": [False] * 2 + [True] * 4 + [False] * 4,
}


def planted(**changes: Any) -> Report:
    flags = {metric: torch.tensor(bits) for metric, bits in FLAGS.items()}
    return Report(**{"data": {"ref": "a"}, "flags": flags, "attacks": ATTACKS} | changes)


def test_every_number_follows_from_the_flags() -> None:
    report = planted()
    assert report.n == 10
    assert report.metrics == ("clean", "linf:0.1", "l2:0.5", "union")
    assert [report.correct(metric) for metric in report.metrics] == [7, 5, 4, 3]
    assert [report.accuracy(metric) for metric in report.metrics] == [0.7, 0.5, 0.4, 0.3]
    assert report.right("union").tolist() == [False] * 2 + [True] * 3 + [False] * 5
    assert report.right("l2:0.5").tolist() == FLAGS["l2:0.5"]


def test_a_clean_report_has_no_union_and_one_that_was_judged_is_taken_as_it_is() -> None:
    clean = torch.tensor(FLAGS["clean"])
    assert planted(flags={"clean": clean}, attacks={}).metrics == ("clean",)
    union = torch.arange(10) < 2
    report = planted(flags={"clean": clean, "union": union})
    assert report.metrics == ("clean", "union")
    assert report.correct("union") == 2


@given(n=st.integers(1, 500), level=st.sampled_from([0.8, 0.95, 0.99]), data=st.data())
def test_intervals_are_wilson_s(n: int, level: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)
    report = Report({}, {"clean": torch.arange(n) < k}, {})
    assert report.interval("clean", level) == wilson(k, n, level)


def test_an_interval_is_of_95_percent_and_ends_where_accuracies_do() -> None:
    report = planted()
    assert report.interval("clean") == wilson(7, 10, 0.95)
    assert report.to_metrics()["clean"]["ci95"] == [round(end, 4) for end in wilson(7, 10, 0.95)]
    assert wilson(0, 9, 0.95)[0] == 0.0
    assert wilson(9, 9, 0.95)[1] == 1.0


def test_metrics_are_told_with_counts_intervals_and_attacks() -> None:
    assert planted().to_metrics() == {
        "clean": {"accuracy": 0.7, "correct": 7, "n": 10, "ci95": [0.3968, 0.8922]},
        "linf:0.1": {
            "accuracy": 0.5,
            "correct": 5,
            "n": 10,
            "ci95": [0.2366, 0.7634],
            "attack": "apgd-ce",
            "steps": 3,
        },
        "l2:0.5": {
            "accuracy": 0.4,
            "correct": 4,
            "n": 10,
            "ci95": [0.1682, 0.6873],
            **ATTACKS["l2:0.5"],
        },
        "union": {"accuracy": 0.3, "correct": 3, "n": 10, "ci95": [0.1078, 0.6032]},
    }


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_a_report_survives_its_record(flags: list[bool]) -> None:
    clean = torch.tensor(flags)
    robust = clean & (torch.arange(len(flags)) % 2 == 0)
    report = Report({"ref": "a"}, {"clean": clean, "linf:0.1": robust}, ATTACKS, notes={"x": 1})
    record = json.loads(json.dumps(report.to_record()))
    again = Report.from_record(record, report.data, ATTACKS)
    assert again == report
    assert again.notes == {"x": 1}
    assert list(again.flags) == ["clean", "linf:0.1"]
    assert len(again.flags) == 2
    assert ("l2:0.5" in again.flags, "clean" in again.flags) == (False, True)
    for metric in report.metrics:
        assert torch.equal(again.right(metric), report.right(metric))
    assert torch.equal(again.flags["clean"], clean)
    assert again.to_metrics() == report.to_metrics()
    assert isinstance(again.flags, Recorded)


def test_a_record_keeps_flags_as_bits_and_no_notes_where_there_are_none() -> None:
    """Ten bits, the first the highest: 11111110 00000000."""
    record = planted(flags={"clean": torch.tensor(FLAGS["clean"])}).to_record()
    assert record.keys() == {"metrics", "flags"}
    assert record["flags"] == {"clean": "/gA="}


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"cost": {"seconds": 1.0}}, True),
        ({"data": {"ref": "b"}}, False),
        ({"attacks": {**ATTACKS, "linf:0.1": {"attack": "pgd-ce"}}}, False),
        ({"notes": {"x": 1}}, False),
        ({"flags": {m: ~torch.tensor(bits) for m, bits in FLAGS.items()}}, False),
    ],
)
def test_reports_are_equal_if_they_say_the_same_whatever_it_cost(
    change: dict[str, Any], equal: bool
) -> None:
    assert (planted() == planted(**change)) == equal
    assert planted() != "a report"


@pytest.mark.parametrize("ask", ["right", "accuracy", "interval"])
def test_what_was_not_judged_is_refused_with_what_was(ask: str) -> None:
    words = "no metric 'l1:3' was judged; choose from clean, linf:0.1, l2:0.5, union"
    with pytest.raises(InputError, match=words):
        getattr(planted(), ask)("l1:3")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([{"ref": "a"}, {"ref": "a"}], []),
        ([{"ref": "a"}, {"ref": "b"}], ["ref"]),
        ([{"ref": "a", "resolution": 32}, {"ref": "a"}], ["resolution"]),
        ([{"ref": "a", "resolution": 32}, {"ref": "b", "resolution": 32}], ["ref", "resolution"]),
    ],
)
def test_what_tells_reports_apart(data: list[dict[str, Any]], expected: list[str]) -> None:
    assert told_apart_by([planted(data=each) for each in data]) == expected
    assert sm.Report is Report

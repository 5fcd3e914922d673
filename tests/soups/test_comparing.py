"""Networks under benchmarks: reports, tables of flags, and what a comparison resumes or refuses."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.doubts import Doubt
from soupmerge.robustness.ensembles import Ensemble
from soupmerge.soups.judge import comparison
from soupmerge.soups.judge.comparison import NOT_FINITE, compare, pairs, report_on
from soupmerge.soups.judge.entries import EnsembleEntry, Entry
from soupmerge.storage.tables import csv_text, images_table
from soupmerge.weights import ledger
from soupmerge.weights.files import sha256_of
from soupmerge.weights.saving import mix_to_file
from tests.shared import Stop, files_of, stop_at
from tests.soups.planted import Planted, asked, benchmark, images, make_ingredients, some_flags

N = 40
TABLE = some_flags(0, N, rows=3)


@pytest.fixture
def entries(tmp_path: Path) -> tuple[Entry, ...]:
    """Three networks, which answer as rows (1, 0, 0), (0, 1, 0) and (0, 0, 1) of the table say."""
    return tuple(
        Entry(ingredient, Planted(3, TABLE)) for ingredient in make_ingredients(tmp_path / "in", 3)
    )


def two_sets() -> list[sm.Benchmark]:
    """Return two benchmarks, the second of half as many images."""
    return [benchmark(N), replace(benchmark(N), data=images(N // 2, "npz:half.npz"))]


# ---- tables


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_taken_for_a_formula(first: str) -> None:
    """Names of files are anyone's, and spreadsheets run what begins so (OWASP, "CSV Injection")."""
    text = csv_text(["name", "n"], [[f"{first}1+1", -5], [f"a{first}1", 7]])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[1] == [f"'{first}1+1", "-5"]
    assert rows[2] == [f"a{first}1", "7"]


def test_cells_survive_a_reader_of_csv() -> None:
    rows = [['say "yes", or', "no\nmore"], ["", "ü"], ["x\ry", "7"], ["x\r\ny", "z"]]
    text = csv_text(["a", "b"], rows)
    assert text.startswith('a,b\n"say ""yes"", or",')
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b"], *rows]


def test_a_table_of_images_has_ids_and_labels() -> None:
    data = replace(images(3), ids=("x", "=y", "z"))
    assert images_table(data) == "id,label\nx,0\n'=y,1\nz,2\n"


# ---- reports


def test_every_network_is_judged_by_every_benchmark_in_order(entries: Any) -> None:
    judges = two_sets()
    assert pairs(entries[:2], judges) == [(e, b) for e in entries[:2] for b in judges]
    reports = compare(entries[:2], judges)
    assert [report.data["ref"] for report in reports] == ["planted", "npz:half.npz"] * 2
    for (entry, judge), report in zip(pairs(entries[:2], judges), reports, strict=True):
        row = tuple(entry.checkpoint["weight"].tolist())
        clean, robust = np.asarray(TABLE(row))[:2, : len(judge.data)]
        assert report.bits("clean").tolist() == clean.tolist()
        assert report.bits("linf:0.1").tolist() == (clean & robust).tolist()


def test_an_ensemble_is_judged_like_any_network(entries: Any) -> None:
    together = EnsembleEntry(entries, "logit")
    report = report_on(together, benchmark(N))
    assert report == benchmark(N)(Ensemble([entry.bound() for entry in entries], "logit"))
    flags = np.array([TABLE(tuple(row))[0] for row in np.eye(3).tolist()])
    assert report.bits("clean").tolist() == (flags.sum(0) >= 2).tolist()


def test_flags_have_a_row_for_each_pair_and_image(entries: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    reports = compare(entries[:2], benchmark(N, threats=2), run=sm.Run(run))
    with open(run / "flags.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "id", "label", "clean", "linf:0.1", "l2:0.5"]
    assert [row["model"] for row in rows] == [e.ref for e in entries[:2] for _ in range(N)]
    assert [row["id"] for row in rows] == [str(i) for i in range(N)] * 2
    assert all(int(row["label"]) == int(row["id"]) % 10 for row in rows)
    for report, part in zip(reports, (rows[:N], rows[N:]), strict=True):
        for metric in ("clean", "linf:0.1", "l2:0.5"):
            expected = [str(int(right)) for right in report.bits(metric)]
            assert [row[metric] for row in part] == expected


def test_flags_name_the_data_where_there_are_several(entries: Any, tmp_path: Path) -> None:
    compare(entries[:1], two_sets(), run=sm.Run(tmp_path / "run"))
    with open(tmp_path / "run" / "flags.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["model", "data", "id"]
    assert [row["data"] for row in rows] == ["planted"] * N + ["npz:half.npz"] * (N // 2)


def test_a_manifest_names_networks_and_benchmarks(
    entries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "doubts", lambda *_, **__: ())
    one, many = benchmark(N), two_sets()
    compare(entries[:2], one, run=sm.Run(tmp_path / "one"))
    compare(entries[:1], many, run=sm.Run(tmp_path / "many"), examine=True)
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert (manifest["command"], manifest["device"], manifest["doubts"]) == ("eval", "cpu", False)
    assert manifest["inputs"] == [entry.describe() for entry in entries[:2]]
    assert manifest["benchmark"] == one.describe()
    assert "compiled" not in manifest
    manifest = json.loads((tmp_path / "many" / "manifest.json").read_text())
    assert manifest["benchmarks"] == [judge.describe() for judge in many]
    assert manifest["doubts"] is True


# ---- doubts, and answers that are none


def test_doubts_are_noted_where_they_are_asked_for(
    entries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = Doubt("scale", "it is scaled", "do not")
    monkeypatch.setattr(comparison, "doubts", lambda *_, **__: (doubt,))
    noted = {"doubts": [{"name": "scale", "what": "it is scaled", "fix": "do not"}]}
    assert report_on(entries[0], benchmark(N), examine=True).notes == noted
    assert report_on(entries[0], benchmark(N)).notes == {}
    assert report_on(entries[0], benchmark(N, threats=0), examine=True).notes == {}
    assert [r.notes for r in compare(entries[:1], benchmark(N), examine=True)] == [noted]
    monkeypatch.setattr(comparison, "doubts", lambda *_, **__: ())
    assert report_on(entries[0], benchmark(N), examine=True).notes == {}


def test_images_without_finite_logits_are_counted(entries: Any) -> None:
    """On the first 5 images one logit is NaN, on the next 4 it is Inf: right on none of them."""

    class Broken(Planted):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            number = (x[:, 0, 0, 0] * 255).round()
            logits[number < 9, 3] = torch.inf
            logits[number < 5, 3] = torch.nan
            return logits

    right = [[True] * N, [True] * N]
    broken = Entry(entries[0].checkpoint, Broken(3, lambda row: right))
    for size in (256, 4, 9):
        report = report_on(broken, benchmark(N, batch_size=size))
        assert report.correct("clean") == N - 9
        assert report.notes[NOT_FINITE] == 9
    assert NOT_FINITE not in report_on(entries[0], benchmark(N)).notes


def test_what_is_compiled_judges_and_what_is_not_is_examined(
    entries: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled: list[nn.Module] = []

    def compile(net: nn.Module, *, dynamic: bool) -> nn.Module:
        assert dynamic
        compiled.append(net)
        return net

    monkeypatch.setattr(torch, "compile", compile)
    plain = report_on(entries[0], benchmark(N))
    assert compiled == []
    assert report_on(entries[0], benchmark(N), compiled=True) == plain
    assert len(compiled) == 1
    compare(entries[:2], benchmark(N), compiled=True, run=sm.Run(tmp_path / "run"))
    assert len(compiled) == 3
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["compiled"] is True
    with pytest.raises(UsageError, match="compiled"):
        compare(entries[:2], benchmark(N), run=sm.Run(tmp_path / "run"))


# ---- resuming


def test_a_comparison_that_is_killed_repeats_nothing(entries: Any, tmp_path: Path) -> None:
    two = [entries[0], EnsembleEntry(entries[:2], "prob")]
    judges = two_sets()
    whole = compare(two, judges, run=sm.Run(tmp_path / "whole"))
    spent = sum(map(asked, judges))
    assert [report.n for report in whole] == [N, N // 2, N, N // 2]
    again = two_sets()
    with pytest.raises(Stop):
        compare(two, again, run=sm.Run(tmp_path / "cut", progress=stop_at(2, "networks")))
    calls: list[tuple[int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        if what == "networks":
            calls.append((done, total))

    assert compare(two, again, run=sm.Run(tmp_path / "cut", progress=progress)) == whole
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sum(map(asked, again)) == spent
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert compare(two, again, run=sm.Run(tmp_path / "cut", progress=stop_at(1, "clean"))) == whole
    assert "verdicts.jsonl" not in files_of(tmp_path / "cut")


def test_a_comparison_that_is_killed_within_a_network_repeats_no_batch(
    entries: Any, tmp_path: Path
) -> None:
    judge, again = benchmark(N, batch_size=5), benchmark(N, batch_size=5)
    whole = compare(entries[:2], judge, run=sm.Run(tmp_path / "whole"))
    with pytest.raises(Stop):
        compare(entries[:2], again, run=sm.Run(tmp_path / "cut", progress=stop_at(3, "linf:0.1")))
    assert compare(entries[:2], again, run=sm.Run(tmp_path / "cut")) == whole
    assert asked(again) == asked(judge)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("harm", [lambda lines: lines[::-1], lambda lines: lines * 2])
def test_records_of_others_are_not_believed(entries: Any, tmp_path: Path, harm: Any) -> None:
    for judges, some in ((two_sets(), entries[:1]), ([benchmark(N)], entries[:2])):
        run = tmp_path / str(len(judges))
        compare(some, judges, run=sm.Run(run))
        path = run / "trials.jsonl"
        path.write_bytes(b"".join(harm(path.read_bytes().splitlines(keepends=True))))
        with pytest.raises(
            InputError, match=r"trials\.jsonl: .*(another network or data|records for).*--force"
        ):
            compare(some, judges, run=sm.Run(run))
        compare(some, judges, run=sm.Run(run, force=True))


def test_a_folder_that_holds_a_network_is_refused(entries: Any, tmp_path: Path) -> None:
    before = files_of(tmp_path / "in")
    for some in (entries[:1], [EnsembleEntry(entries, "prob")]):
        with pytest.raises(UsageError, match="contains an input"):
            compare(some, benchmark(N), run=sm.Run(tmp_path / "in", force=True))
    assert files_of(tmp_path / "in") == before


# ---- what is refused or warned of before any network is judged


def test_the_same_images_twice_are_refused_whatever_they_are_called(entries: Any) -> None:
    judges = [benchmark(N), replace(benchmark(N), data=images(N, "npz:again.npz"))]
    with pytest.raises(UsageError, match=r"^data: npz:again\.npz is given more than once"):
        compare(entries, judges)
    assert sum(map(asked, judges)) == 0


def test_a_network_that_cannot_take_the_images_is_refused_before_any_is_judged(
    entries: Any, tmp_path: Path
) -> None:
    judge = benchmark(N)
    wrong = Entry(entries[1].checkpoint, nn.Linear(1, 3, bias=False))
    sm.save(tmp_path / "wrong.safetensors", {"weight": torch.ones(3, 1)})
    wrong = Entry(sm.load(tmp_path / "wrong.safetensors")[0], wrong.net)
    with pytest.raises(InputError, match=r"wrong\.safetensors: cannot take images .*choose data"):
        compare([entries[0], wrong], judge, run=sm.Run(tmp_path / "run"))
    assert asked(judge) == 0
    assert not (tmp_path / "run" / "trials.jsonl").exists()


@pytest.mark.parametrize("purpose", [ledger.TRAINED, ledger.STOPPED, ledger.CHOSEN])
def test_a_network_that_images_have_made_is_named(
    entries: Any, tmp_path: Path, purpose: str
) -> None:
    ingredients = make_ingredients(tmp_path / "in", 3)
    found = ledger.entry("learn", images(N), purpose)
    recipe = replace(sm.Recipe.of(ingredients, [1.0, 0.0, 0.0]), seen=(found,))
    mix_to_file(tmp_path / "soup.safetensors", ingredients, recipe)
    soup = Entry(sm.load(tmp_path / "soup.safetensors")[0], entries[0].net)
    made = f"judge have made .*soup.safetensors was {purpose} planted"
    with pytest.warns(UserWarning, match=made):
        compare([soup, entries[1]], benchmark(N))
    with pytest.warns(UserWarning, match=f"prob ensemble of .* was {purpose}"):
        compare([EnsembleEntry((soup, entries[1]), "prob")], benchmark(N))
    other = images(N)
    other.pixels[:, 0, 0, 2] = 2
    compare([soup], replace(benchmark(N, threats=0), data=other))


# ---- entries


def test_an_entry_says_how_its_weights_were_made(
    entries: Any, trained: list[Path], tmp_path: Path
) -> None:
    ingredients, net = make_ingredients(tmp_path / "in", 3), sm.model("digits-cnn?width=4")
    description = Entry(ingredients[0], net).describe()
    assert description == {
        "ref": ingredients[0].ref,
        "sha256": ingredients[0].sha256,
        "model": "digits-cnn?width=4",
        "made by": "elsewhere",
    }
    recipe = replace(sm.Recipe.uniform(ingredients), origin="greedy")
    mix_to_file(tmp_path / "soup.safetensors", ingredients, recipe)
    assert Entry(sm.load(tmp_path / "soup.safetensors")[0], net).describe()["made by"] == "greedy"
    assert Entry(sm.load(trained[0])[0], net).describe()["made by"] == "finetune"
    assert Entry(ingredients[0], entries[0].net).describe()["model"] is None


def test_an_ensemble_tells_of_its_members(entries: Any) -> None:
    pair = EnsembleEntry(entries[:2], "prob")
    description = pair.describe()
    assert description["members"] == [entry.describe() for entry in entries[:2]]
    hashes = [entry.checkpoint.sha256 for entry in entries[:2]]
    assert description["sha256"] == sha256_of(hashes) != sha256_of(hashes[::-1])
    assert (description["made by"], description["average"], description["forward_passes"]) == (
        "ensemble",
        "prob",
        2,
    )
    assert description["ref"] == pair.ref == "prob ensemble of 0, 1"
    assert pair.checkpoints == tuple(entry.checkpoint for entry in entries[:2])
    bound = pair.bound()
    assert isinstance(bound, Ensemble)
    assert bound.average == "prob"


@pytest.mark.parametrize(
    ("ref", "name"),
    [("a/b/linf.safetensors", "linf"), ("runs/grid/soup.safetensors", "grid"), ("soup.pt", "soup")],
)
def test_members_are_named_by_their_file_or_run(entries: Any, ref: str, name: str) -> None:
    member = Entry(replace(entries[0].checkpoint, ref=ref), entries[0].net)
    assert EnsembleEntry((member, entries[1]), "logit").ref == f"logit ensemble of {name}, 1"

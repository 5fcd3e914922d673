"""Corrupted images, the few of them that choose, and what is chosen by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.adapting import Adaptation
from soupmerge.soups.shots import draw, short_names
from soupmerge.sources.corrupting import STRENGTHS
from tests.shared import Outcome

NAMES = tuple(STRENGTHS)


def pixels(ref: str, limit: int = 40) -> torch.Tensor:
    images = sm.data(ref, limit=limit)
    return images.batch(torch.arange(len(images)))[0]


# ---- corruptions


@pytest.mark.parametrize("name", NAMES)
def test_what_becomes_of_an_image_depends_on_no_other(name: str) -> None:
    few, all_of_them = sm.data(f"{name}-3:digits", limit=7), sm.data(f"{name}-3:digits")
    places = torch.tensor([list(all_of_them.ids).index(id) for id in few.ids])
    assert torch.equal(few.pixels, all_of_them.pixels[places])
    plain = sm.data("digits", limit=7)
    assert (few.ids, few.labels.tolist()) == (plain.ids, plain.labels.tolist())
    assert few.fingerprint()["sha256"] != plain.fingerprint()["sha256"]


@pytest.mark.parametrize("name", NAMES)
def test_a_greater_strength_changes_more(name: str) -> None:
    plain = pixels("digits")
    far = [float((pixels(f"{name}-{i}:digits") - plain).square().mean()) for i in range(1, 6)]
    assert all(b >= a - 1e-6 for a, b in zip(far[:-1], far[1:], strict=True))
    assert far[-1] > 2 * far[0]


def jpeg_by_hand(image: np.ndarray, quality: int) -> np.ndarray:
    """Return what is left of one grey block of 8×8: its DCT in steps of a table (T.81, annex K)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = np.clip(np.floor((scale * LUMINANCE + 50) / 100), 1, 255)
    rounded = table * np.round(scipy.fft.dctn(image * 255 - 128, norm="ortho") / table)
    return (scipy.fft.idctn(rounded, norm="ortho") + 128).clip(0, 255) / 255


LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


@pytest.mark.parametrize("strength", [1, 5])
def test_corruptions_agree_with_other_implementations(strength: int) -> None:
    sigma, quality, factor = (STRENGTHS[n][strength - 1] for n in ("blur", "jpeg", "contrast"))
    reach = int(np.ceil(3 * 8 * sigma))
    found = {name: pixels(f"{name}-{strength}:digits").squeeze(1).numpy() for name in NAMES}
    off: dict[str, list[float]] = {"blur": [], "contrast": [], "jpeg": []}
    for i, image in enumerate(pixels("digits").squeeze(1).numpy()):
        stored = (image * 255).round() / 255
        ours = {
            "blur": scipy.ndimage.gaussian_filter(image, 8 * sigma, mode="mirror", radius=reach),
            "contrast": image.mean() + factor * (image - image.mean()),
            "jpeg": jpeg_by_hand(stored, int(quality)),
        }
        for name, expected in ours.items():
            off[name].append(255 * np.abs(found[name][i] - expected).max())
    assert max(off["blur"] + off["contrast"]) < 0.6
    # A coefficient halfway between two steps may go either way.
    assert np.quantile(off["jpeg"], 0.8) < 1.6


def test_colours_are_corrupted_too() -> None:
    images = sm.Images.of(torch.rand(3, 3, 16, 16), [0, 1, 2])
    from soupmerge.sources.corrupting import corrupt

    for name in NAMES:
        out = corrupt(images.pixels, images.ids, name, 2)
        assert out.shape == images.pixels.shape
        assert out.dtype == torch.uint8


def test_noise_has_its_deviation_and_is_the_same_at_all_strengths() -> None:
    grey = torch.full((64, 3, 16, 16), 128, dtype=torch.uint8)
    from soupmerge.sources.corrupting import corrupt

    weak, strong = (corrupt(grey, [str(i) for i in range(64)], "noise", s).float() for s in (1, 2))
    assert float(weak.std()) / 255 == pytest.approx(STRENGTHS["noise"][0], rel=0.02)
    assert torch.allclose((strong - 128) / 2, weak - 128, atol=1)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("blur-0:digits", ("'0'", "1 to 5")),
        ("blur-6:digits", ("'6'", "1 to 5")),
        ("blur-x:digits", ("'x'", "1 to 5")),
        ("blurr-3:digits", ("'blurr'", "'blur'")),
        ("blur-1:noise-2:digits", ("once",)),
    ],
)
def test_what_cannot_be_meant_is_said(ref: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        sm.data(ref)
    assert all(word in str(caught.value) for word in words)


def test_accuracy_falls_with_strength(trained: list[Path]) -> None:
    pot = sm.load(trained[0])[0]
    net = sm.bind(sm.model(like=pot), pot)
    for name in NAMES:
        judged = [
            sm.Benchmark(sm.data(f"{name}-{i}:digits"))(net).accuracy("clean") for i in range(1, 6)
        ]
        assert all(b <= a + 0.03 for a, b in zip(judged[:-1], judged[1:], strict=True)), name
        assert judged[-1] <= judged[0]


# ---- shots


def test_no_image_both_chooses_and_judges_in_any_set() -> None:
    sets = [sm.data(ref) for ref in ("digits", "blur-3:digits", "jpeg-1:digits")]
    drawn = [draw(data, 50, 0) for data in sets]
    chose, judged = ({id for both in drawn for id in both[i].ids} for i in (0, 1))
    assert len(chose) == 50
    assert not chose & judged
    assert len(chose | judged) == len(sets[0])
    assert set(draw(sets[0], 50, 1)[0].ids) != chose
    for part in drawn[1]:
        _, labels = part.batch(torch.arange(len(part)))
        assert torch.equal(labels, part.labels)
    prints = [part.fingerprint()["sha256"] for both in drawn for part in both]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("shots", [0, 300, 301])
def test_some_must_choose_and_some_must_judge(shots: int) -> None:
    with pytest.raises(UsageError, match="shots"):
        draw(sm.data("digits"), shots, 0)


def test_short_names_are_distinct_and_fit_for_files() -> None:
    refs = ["folder:/a/b", "blur-1:folder:/a/b", "folder:/c/b", "npz:x/$y z.npz", "folder:/a/b"]
    names = short_names(refs)
    assert len(set(names)) == len(names)
    assert all(not set(name) & set("/$ :") for name in names)
    assert short_names(["folder:/a/b"]) == ("b",)
    assert short_names(["digits", "jpeg-2:digits"]) == ("digits", "jpeg-2")


# ---- adapting


@pytest.fixture(scope="module")
def found(trained: list[Path]) -> Adaptation:
    pots = sm.load(*trained)
    sets = [sm.data(ref) for ref in ("noise-5:digits", "contrast-5:digits", "digits")]
    return sm.adapt(sm.model(like=pots), pots, sets, shots=60, step=0.5)


def test_no_soup_is_better_on_the_images_that_chose(found: Adaptation) -> None:
    right = np.array([[r.correct("clean") for r in reports] for reports in found.choosing])
    assert right.shape == (6, 3)
    assert right.sum(1).max() == right[found.recipes.index(found.single)].sum()
    for s, recipe in enumerate(found.specific):
        assert right[:, s].max() == right[found.recipes.index(recipe), s]


def test_the_table_is_what_networks_do_on_the_other_images(
    found: Adaptation, trained: list[Path]
) -> None:
    pots = sm.load(*trained)
    net = sm.model(like=pots)
    data = sm.data("noise-5:digits")
    part = draw(data, 60, 0)[1]
    x, y = part.batch(torch.arange(len(part)))
    logits = torch.stack([sm.bind(net, pot)(x) for pot in pots]).detach()
    rows = {row.name: row for row in found.rows}
    for name, ours in zip(pots.names, logits, strict=True):
        assert rows[name].reports[0].right("clean").tolist() == (ours.argmax(1) == y).tolist()
    prob = (logits.softmax(-1).mean(0).argmax(1) == y).double().mean()
    assert rows["prob ensemble"].accuracies[0] == pytest.approx(float(prob))
    soup = sm.bind(net, sm.mix(pots, found.specific[0]))
    ours = (soup(x).argmax(1) == y).tolist()
    assert rows["a soup for each set"].reports[0].right("clean").tolist() == ours
    assert [rows[n].passes for n in ("single soup", "a soup for each set")] == [1, 1]
    assert [rows[n].passes for n in ("prob ensemble", "logit ensemble")] == [3, 3]
    for row in found.rows:
        assert row.mean == pytest.approx(np.mean(row.accuracies))


def test_the_best_individual_is_an_ingredient(found: Adaptation) -> None:
    best = next(row for row in found.rows if row.name.startswith("best individual,"))
    name = best.name.removeprefix("best individual, ")
    assert best.reports == next(row.reports for row in found.rows if row.name == name)


# ---- the command


def files(home: Path) -> dict[str, bytes]:
    found = [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def test_a_run_goes_on_where_it_was_cut(
    soupmerge: Callable[..., Outcome], pots: sm.Ingredients, tmp_path: Path
) -> None:
    refs = [pot.ref for pot in pots]
    words = ("adapt", *refs, "--data=noise-5:digits", "--data=digits", "--limit", 40, "--step", 0.5)
    run = tmp_path / "run"
    whole = soupmerge(*words, "--shots", 10, "-o", run)
    assert whole.status == 0, whole.err
    assert "MEAN" in whole.out
    assert "×3" in whole.out
    before = files(run)
    assert {"recipe.json", "soup.safetensors", "images.csv", "best/noise-5.json"} <= set(before)
    rows = [line.split(",") for line in before["images.csv"].decode().splitlines()[1:]]
    roles = {role: {row[1] for row in rows if row[3] == role} for role in ("choose", "judge")}
    assert len(roles["choose"]) == 10
    assert not roles["choose"] & roles["judge"]
    for journal, kept in (("trials.jsonl", 2), ("judged.jsonl", 1)):
        lines = before[journal].splitlines(keepends=True)
        (run / journal).write_bytes(b"".join(lines[:kept]))
        (run / "soup.safetensors").unlink()
        assert soupmerge(*words, "--shots", 10, "-o", run).status == 0
        assert files(run) == before
    other = soupmerge(*words, "--shots", 11, "-o", run)
    assert other.status == 2
    assert "shots was 10, now 11" in other.err
    told = json.loads(soupmerge(*words, "--shots", 10, "-o", run, "--json").out)
    assert told["sets"]["noise-5"]["judged on"]["n"] == 30
    assert sum(told["single"]["weights"]["model"]) == pytest.approx(1)
    assert json.loads(before["adapted.json"]) == told
    assert soupmerge("report", run).status == 0
    assert (run / "figures" / "shifts.png").read_bytes().startswith(b"\x89PNG")
    page = (run / "report.html").read_text()
    for row in told["rows"]:
        assert f">{row['name']}<" in page
        assert f"{row['mean']:.1%}" in page
    assert {row["passes"] for row in told["rows"]} == {1, 3}
    lines = before["judged.jsonl"].splitlines(keepends=True)
    (run / "trials.jsonl").write_bytes(lines[-1])
    assert soupmerge(*words, "--shots", 10, "-o", run).status == 3


def test_a_recipe_for_one_set_makes_its_soup(
    soupmerge: Callable[..., Outcome], pots: sm.Ingredients, tmp_path: Path
) -> None:
    refs = [pot.ref for pot in pots][:2]
    run = tmp_path / "run"
    words = ("adapt", *refs, "--data", "jpeg-5:digits", "--limit", 30, "--shots", 20, "-o", run)
    assert soupmerge(*words).status == 0
    out = tmp_path / "soup.safetensors"
    assert soupmerge("mix", "--recipe", run / "best" / "digits.json", "-o", out).status != 0
    name = next((run / "best").iterdir())
    assert soupmerge("mix", "--recipe", name, "-o", out).status == 0
    assert out.read_bytes() == (run / "soup.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--data digits --data digits", "more than once"),
        ("--data digits --shots 300", "1 to 299"),
        ("--data blurr-3:digits", "'blur'"),
        ("--data digits --step 0.3", "0.3"),
    ],
)
def test_what_cannot_be_meant_makes_no_run(
    soupmerge: Callable[..., Outcome], pots: sm.Ingredients, tmp_path: Path, words: str, told: str
) -> None:
    refs = [pot.ref for pot in pots]
    found = soupmerge("adapt", *refs, *words.split(), "-o", tmp_path / "run")
    assert found.status == 2
    assert told in found.err
    assert not (tmp_path / "run").exists()


def test_a_network_for_other_images_is_refused(pots: sm.Ingredients) -> None:
    wide = sm.Images.of(torch.rand(9, 3, 8, 8), torch.zeros(9, dtype=torch.long))
    net: nn.Module = sm.model(like=pots)
    with pytest.raises(sm.errors.InputError, match="cannot take images"):
        sm.adapt(net, pots, [wide], shots=4)

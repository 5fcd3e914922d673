"""Figures are drawn from run folders, the same from the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.figures.drawing import draw
from soupmerge.figures.reading import coefficients, depth, front, read_run
from soupmerge.soups import barriers
from soupmerge.soups.comparing import Entry, compare
from soupmerge.weights.groups import block_of

Typed = Callable[..., Any]
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.fixture
def chooser() -> sm.Benchmark:
    images = sm.data("digits", split="val", limit=30)
    return sm.Benchmark(images, [sm.APGD(sm.Linf(0.1), steps=2)])


def check(paths: list[str], names: list[str]) -> None:
    assert [Path(p).name for p in paths] == names
    for path in map(Path, paths):
        assert path.read_bytes().startswith(MAGIC[path.suffix])
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.verify()
                assert min(picture.size) > 400


@pytest.mark.parametrize(
    ("k", "names"), [(3, ["ternary.png", "front.png"]), (2, ["path.png", "front.png"])]
)
def test_a_grid_s_figures(
    trained: list[Path], chooser: sm.Benchmark, tmp_path: Path, k: int, names: list[str]
) -> None:
    pots = sm.load(*trained[:k])
    sm.grid(sm.model(like=pots), pots, chooser, step=0.5, out=tmp_path / "run")
    check(draw(tmp_path / "run"), names)


def test_figures_of_learning_and_of_a_comparison(
    trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    pots = sm.load(*trained)
    net, few = sm.model(like=pots), sm.data("digits", split="train", limit=64)
    sm.learn(net, pots, few, sm.against(None), epochs=2, out=tmp_path / "learned")
    check(draw(tmp_path / "learned"), ["learning.png", "coefficients.png"])
    groups, rows = coefficients(read_run(tmp_path / "learned")) or ([], [])
    assert groups == [name for name, _ in net.named_parameters()]
    assert all(sum(row) == pytest.approx(1) for row in rows)
    soup = sm.load(tmp_path / "learned" / "soup.safetensors")[0]
    compare([Entry(c, net) for c in (*pots, soup)], chooser, out=tmp_path / "judged")
    formats = ("png", "svg", "pdf")
    paths = draw(tmp_path / "judged", formats)
    check(paths, [f"comparison.{form}" for form in formats])
    before = {p: Path(p).read_bytes() for p in paths}
    assert {p: Path(p).read_bytes() for p in draw(tmp_path / "judged", formats)} == before


def test_a_dark_screen_shows_what_paper_does(
    trained: list[Path], chooser: sm.Benchmark, tmp_path: Path
) -> None:
    pots = sm.load(*trained[:2])
    sm.grid(sm.model(like=pots), pots, chooser, step=1, out=tmp_path / "run")
    png, svg = draw(tmp_path / "run", ("png", "svg"))
    with Image.open(png) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    assert (pixels[0, 0] == 255).all()
    ground = Path(svg).read_text().partition('id="patch_1"')[2].partition("/>")[0]
    assert "fill: #ffffff" in ground


def test_barriers_are_kept_and_drawn(
    pots: sm.Ingredients,
    soupmerge: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = ["check", *(pot.ref for pot in pots), "--data", "digits", "--limit", "12"]
    line += ["--points", "3", "-o", tmp_path / "run"]
    first = soupmerge(*line)
    assert first.status in (0, 1)
    check(draw(tmp_path / "run"), ["barriers.png"])
    monkeypatch.setattr(barriers, "barrier", None)  # nothing is measured twice
    assert soupmerge(*line).out == first.out
    other = soupmerge(*line, "--tolerance", "0.5")
    assert other.status == 2
    assert "tolerance was 0.05, now 0.5" in other.err
    (tmp_path / "run" / "barriers.json").write_text("{}")
    damaged = soupmerge(*line)
    assert damaged.status == 3
    assert "barriers.json: holds no barriers" in damaged.err


def test_check_keeps_nothing_if_nothing_is_measured(soupmerge: Typed, pots: sm.Ingredients) -> None:
    ended = soupmerge("check", *(pot.ref for pot in pots), "-o", "run")
    assert ended.status == 2
    assert "-o: no barrier to keep; give --data" in ended.err


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    def beaten(p: tuple[float, float]) -> bool:
        return any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)

    kept = front(points)
    assert sorted(kept) == [i for i, p in enumerate(points) if not beaten(p)]
    assert [points[i] for i in kept] == sorted(points[i] for i in kept)


def test_names_tell_the_depth_of_blocks_where_no_run_does() -> None:
    names = sm.model("resnet18-cifar?width=2").state_dict()
    blocks = list(dict.fromkeys(map(block_of, names)))
    assert sorted(sorted(blocks), key=depth) == blocks
    transformer = ["patch_embed.proj", "blocks.0.norm1", "blocks.2.attn", "blocks.10.attn", "head"]
    assert sorted(sorted(transformer), key=depth) == transformer


def test_what_is_no_run_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        draw(tmp_path)

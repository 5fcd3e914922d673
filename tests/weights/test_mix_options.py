"""Each option of `soupmerge mix`, and `soupmerge convert`, as a user types them."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import soupmerge as sm
from soupmerge.weights.buffers import is_statistic
from soupmerge.weights.recipe_files import read_recipe
from tests.shared import Outcome, files_of, near

Typed = Callable[..., Outcome]
State = dict[str, torch.Tensor]
WORDS = "a.safetensors b.safetensors c.safetensors -w .5,.25,.25"
DATA = "--buffers recalibrate --data digits --limit 96 --batch-size 32"


@pytest.fixture(autouse=True)
def at_home(ingredients: sm.Ingredients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be where a.safetensors, b.safetensors and c.safetensors are."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mix(soupmerge: Typed) -> Callable[[str], Outcome]:
    """Type ``soupmerge mix …``, which must not end in a bug of ours."""

    def typed(line: str) -> Outcome:
        result = soupmerge("mix", *line.split())
        assert "a bug of ours" not in result.err
        return result

    return typed


Mix = Callable[[str], Outcome]


def plain(path: Path | str) -> State:
    return safetensors.torch.load_file(path)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[n], other[n]) and one[n].dtype == other[n].dtype for n in one
    )


def size_of(state: State) -> int:
    return sum(tensor.nbytes for tensor in state.values())


# ---- coefficients and dtypes


def test_normalize_divides_each_row_by_its_sum(mix: Mix) -> None:
    ingredients = "a.safetensors b.safetensors c.safetensors"
    assert mix(f"{ingredients} -w 2,1,1 -o no.safetensors").status == 2
    assert mix(f"{ingredients} -w 2,1,1 --normalize -o one.safetensors").status == 0
    assert mix(f"{WORDS} -o two.safetensors").status == 0
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()
    rows = "--groups glob=head.* -w 0,6,2 -w head.*=1,1,2 --normalize"
    assert mix(f"{ingredients} {rows} -o three.safetensors").status == 0
    assert read_recipe("three.safetensors").weights == ((0.25, 0.25, 0.5), (0.0, 0.75, 0.25))


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_dtype_is_that_of_all_but_counters(
    mix: Mix, ingredients: sm.Ingredients, name: str
) -> None:
    assert mix(f"{WORDS} --dtype {name} -o soup.safetensors").status == 0
    dtype: torch.dtype = getattr(torch, name)
    states = [plain(ingredient.ref) for ingredient in ingredients]
    for key, tensor in plain("soup.safetensors").items():
        if not states[0][key].is_floating_point():
            assert torch.equal(tensor, states[0][key])
            continue
        assert tensor.dtype == dtype
        expected = sum(w * s[key].double() for w, s in zip((0.5, 0.25, 0.25), states, strict=True))
        half = torch.finfo(dtype).eps / 2
        torch.testing.assert_close(tensor.double(), expected, rtol=1.01 * half, atol=1e-7)


def test_a_dtype_too_narrow_is_refused_and_nothing_written(mix: Mix, net: nn.Module) -> None:
    state = near(net, 5)
    state["head.bias"][2] = 1e5
    sm.save("large.safetensors", state)
    before = files_of(Path())
    result = mix("large.safetensors a.safetensors -w .9,.1 --dtype float16 -o s.safetensors")
    assert result.status == 7
    assert "head.bias" in result.err
    assert "overflow float16" in result.err
    assert files_of(Path()) == before
    line = "large.safetensors a.safetensors -w .9,.1 --dtype bfloat16 -o s.safetensors"
    assert mix(line).status == 0


# ---- what is printed


def test_json_says_what_was_written(mix: Mix) -> None:
    parsed = json.loads(mix(f"{WORDS} -o soup.safetensors --json").out)
    written = Path("soup.safetensors").read_bytes()
    assert parsed["sha256"] == hashlib.sha256(written).hexdigest()
    assert parsed["out"] == "soup.safetensors"
    assert parsed["bytes"] == size_of(plain("soup.safetensors"))
    assert sm.Recipe.from_json(parsed["recipe"]) == read_recipe("soup.safetensors")
    parsed = json.loads(mix(f"{WORDS} -o shards --max-shard-size 3KB --json").out)
    assert parsed["sha256"] == sm.load("shards")[0].sha256


def test_json_counts_bytes_of_the_dtype_written(mix: Mix) -> None:
    parsed = json.loads(mix(f"{WORDS} --dtype float16 -o soup.safetensors --json").out)
    assert parsed["bytes"] == size_of(plain("soup.safetensors"))


@pytest.mark.parametrize("settings", ["", " --dtype float16", " --max-shard-size 3KB", f" {DATA}"])
def test_a_dry_run_tells_the_plan_and_writes_nothing(mix: Mix, settings: str) -> None:
    before = files_of(Path())
    plan = mix(f"{WORDS}{settings} -o soup.safetensors --dry-run")
    assert plan.status == 0
    assert files_of(Path()) == before
    assert mix(f"{WORDS}{settings} -o soup.safetensors").status == 0
    one = Path("soup.safetensors")
    files = list(one.glob("*.safetensors")) if one.is_dir() else [one]
    size = sum(size_of(plain(file)) for file in files)
    tensors = sum(len(plain(file)) for file in files)
    lines = [" ".join(line.split()) for line in plan.out.splitlines()]
    written = f"{tensors} tensors, {size:,} bytes, {len(files)} file{'s' * (len(files) > 1)}"
    assert f"would write soup.safetensors: {written}" in lines
    read = sum(Path(f"{name}.safetensors").stat().st_size for name in "abc")
    assert f"would read {read:,} bytes, twice (once to hash)" in lines
    assert "a coefficient 0.5" in lines
    assert any(line.startswith("memory about ") for line in lines)
    assert f"statistics {'recalibrate' if 'recalibrate' in settings else 'average'}" in lines


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ("-o a.safetensors", 2),
        ("-o b.safetensors", 2),
        ("-o there.safetensors", 5),
        ("-o shards --max-shard-size 0", 2),
        ("-o there --max-shard-size 3KB", 5),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(mix: Mix, settings: str, status: int) -> None:
    Path("there.safetensors").write_bytes(b"precious")
    Path("there").mkdir()
    assert mix(f"{WORDS} {settings}").status == status
    assert mix(f"{WORDS} {settings} --dry-run").status == status


# ---- shards


def test_shards_are_no_larger_than_asked_and_indexed(mix: Mix) -> None:
    assert mix(f"{WORDS} -o whole.safetensors").status == 0
    assert mix(f"{WORDS} --max-shard-size 1.5KB -o any.name").status == 0
    whole, index = plain("whole.safetensors"), Path("any.name/model.safetensors.index.json")
    parsed = json.loads(index.read_text())
    shards = sorted(Path("any.name").glob("*.safetensors"))
    n = len(shards)
    assert n > 2
    assert [f.name for f in shards] == [
        f"model-{i + 1:05d}-of-{n:05d}.safetensors" for i in range(n)
    ]
    assert parsed["metadata"]["total_size"] == size_of(whole)
    found: State = {}
    for shard in shards:
        tensors = plain(shard)
        assert size_of(tensors) <= 1500 or len(tensors) == 1
        assert {parsed["weight_map"][name] for name in tensors} == {shard.name}
        found |= tensors
    assert equal(found, whole)
    assert parsed["weight_map"].keys() == whole.keys()


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ("-o there --max-shard-size 3KB --force", 5, "already exists"),
        ("-o x --max-shard-size many", 2, "is not a size"),
        ("-o x --max-shard-size 0", 2, "at least one byte"),
        (f"-o x --max-shard-size 3KB {DATA}", 2, "writes a single file"),
        ("-o x", 2, "name a .safetensors file"),
        ("-o x.bin", 2, "name a .safetensors file"),
        ("-o x.safetensors --data digits", 2, "--buffers recalibrate"),
        ("-o x.safetensors --buffers recalibrate", 2, "give --data"),
        ("-o x.safetensors --recipe a.safetensors", 2, "give one of the two"),
    ],
)
def test_outputs_and_options_that_cannot_be_meant(
    mix: Mix, settings: str, status: int, words: str
) -> None:
    Path("there").mkdir()
    before = files_of(Path())
    result = mix(f"{WORDS} {settings}")
    assert (result.status, result.out) == (status, "")
    assert words in result.err
    assert files_of(Path()) == before


# ---- heads and statistics


@pytest.mark.parametrize(("head", "source"), [("base", "b"), ("first", "a"), ("skip", None)])
def test_a_head_is_copied_or_left_out(mix: Mix, head: str, source: str | None) -> None:
    assert mix(f"{WORDS} -o whole.safetensors --base 2").status == 0
    assert mix(f"{WORDS} -o soup.safetensors --base 2 --head {head}").status == 0
    whole, soup = plain("whole.safetensors"), plain("soup.safetensors")
    ours = {name: whole[name] for name in whole if not name.startswith("head.")}
    assert 0 < len(ours) < len(whole)
    donor = plain(f"{source}.safetensors") if source else {}
    assert equal(soup, ours | {n: t for n, t in donor.items() if n.startswith("head.")})


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of torch's threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threat", ["", " --threat linf:0.1"])
def test_statistics_are_estimated_on_the_images_given(
    mix: Mix, ingredients: sm.Ingredients, threat: str
) -> None:
    for out, settings in (("one", "-j 1"), ("two", "-j 2")):
        assert mix(f"{WORDS} {DATA}{threat} {settings} -o {out}.safetensors").status == 0
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()
    average = sm.mix(ingredients, sm.Recipe.of(ingredients, [0.5, 0.25, 0.25]))
    images = sm.data("digits", split="train", limit=96)
    attack = sm.APGD.training(sm.Linf(0.1), steps=10) if threat else None
    how_estimated = sm.Calibration(images, attack, batch_size=32)
    soup = plain("one.safetensors")
    assert equal(soup, sm.recalibrate(sm.model(like=ingredients), average, how_estimated))
    moved = {name for name in soup if not torch.equal(soup[name], average[name])}
    assert moved == {name for name in soup if is_statistic(name)}
    assert read_recipe("one.safetensors").calibration == how_estimated.describe()


# ---- made again


@pytest.mark.parametrize(
    "settings",
    [
        "-w uniform --base 3",
        "-w 2,-.5,-.5 --affine --buffers base",
        "-w uniform --groups block -w head=1,0,0",
        "-w .2,.3,.5 --groups tensor --exclude features.0.*",
        "-w .2,.3,.5 --head skip --only head.* --only features.0.*",
        f"-w 1/3,1/3,1/3 {DATA}",
    ],
)
def test_a_soup_s_recipe_makes_the_same_bytes(mix: Mix, settings: str) -> None:
    assert (
        mix(f"a.safetensors b.safetensors c.safetensors {settings} -o one.safetensors").status == 0
    )
    again = f" {DATA.replace('--buffers recalibrate', '')}" if DATA in settings else ""
    assert mix(f"--recipe one.safetensors{again} -o two.safetensors").status == 0
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


def test_the_recipe_of_shards_makes_the_same_shards(mix: Mix) -> None:
    assert mix(f"{WORDS} --max-shard-size 3KB -o one").status == 0
    # Sources go by name beside the recipe's folder, too.
    assert mix("--recipe one --max-shard-size 3KB -o two").status == 0
    assert files_of(Path("one")) == files_of(Path("two"))


@pytest.mark.parametrize("settings", ["", DATA])
def test_a_recipe_refuses_a_source_that_changed(mix: Mix, net: nn.Module, settings: str) -> None:
    assert mix(f"{WORDS} {settings} -o one.safetensors").status == 0
    moved = near(net, 2)
    moved["head.bias"][0] += 1e-6
    sm.save("b.safetensors", moved, model="digits-cnn?width=4", force=True)
    result = mix(
        f"--recipe one.safetensors {settings[len('--buffers recalibrate') :]} -o two.safetensors"
    )
    assert result.status == 3
    assert "b.safetensors has sha256" in result.err
    assert "a.safetensors has sha256" not in result.err
    assert not Path("two.safetensors").exists()


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ("", 2, "give --data"),
        ("--data digits --limit 95 --batch-size 32", 3, "give the same images"),
        ("--data digits --limit 96 --batch-size 48", 3, "give the same images"),
        ("--data digits --limit 96 --batch-size 32 --seed 1", 3, "give the same images"),
        ("--data digits --limit 96 --batch-size 32 --threat l2:1", 3, "give the same images"),
        (f"{DATA}", 2, "leave it out"),
    ],
)
def test_a_recalibrated_recipe_holds_one_to_its_images(
    mix: Mix, settings: str, status: int, words: str
) -> None:
    assert mix(f"{WORDS} {DATA} -o one.safetensors").status == 0
    result = mix(f"--recipe one.safetensors {settings} -o two.safetensors")
    assert result.status == status
    assert words in result.err
    assert not Path("two.safetensors").exists()


@pytest.mark.parametrize(
    "settings", ["--exclude head.*", "--only head.*", "--head skip", "--buffers base"]
)
def test_what_the_recipe_says_cannot_be_said_again(mix: Mix, settings: str) -> None:
    assert mix(f"{WORDS} -o one.safetensors").status == 0
    result = mix(f"--recipe one.safetensors {settings} -o two.safetensors")
    assert result.status == 2
    assert "the recipe determines this" in result.err


@pytest.mark.parametrize("settings", ["--groups tensor", "--affine", "--normalize", "--base 2"])
def test_nothing_beside_a_recipe_is_ignored(mix: Mix, settings: str) -> None:
    assert mix(f"{WORDS} -o one.safetensors").status == 0
    assert mix(f"--recipe one.safetensors {settings} -o two.safetensors").status == 2


def test_the_recipe_of_a_soup_in_another_dtype_makes_the_same_bytes(mix: Mix) -> None:
    assert mix(f"{WORDS} --dtype float16 -o one.safetensors").status == 0
    assert mix("--recipe one.safetensors -o two.safetensors").status == 0
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


def test_a_recalibrated_recipe_is_not_written_in_shards(mix: Mix) -> None:
    assert mix(f"{WORDS} {DATA} -o one.safetensors").status == 0
    data = DATA.replace("--buffers recalibrate", "")
    assert mix(f"--recipe one.safetensors {data} --max-shard-size 3KB -o two").status == 2


# ---- convert


def test_convert_takes_the_numbers_and_leaves_the_code(
    soupmerge: Typed, mix: Mix, net: nn.Module
) -> None:
    state = near(net, 7)
    checkpoint: dict[str, Any] = {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
    }
    torch.save(checkpoint, "theirs.pt")
    refused = soupmerge("inspect", "theirs.pt")
    assert refused.status == 4
    assert "argparse.Namespace" in refused.err
    assert mix("theirs.pt a.safetensors -w uniform -o s.safetensors").status == 4
    result = soupmerge("convert", "theirs.pt", "-o", "ours.safetensors")
    assert result.status == 0
    assert "ignored references to argparse.Namespace" in result.err
    assert equal(plain("ours.safetensors"), state)
    notes = sm.load("ours.safetensors")[0].notes_of_soupmerge
    sha256 = hashlib.sha256(Path("theirs.pt").read_bytes()).hexdigest()
    assert notes["converted"] == {"ref": "theirs.pt", "sha256": sha256}
    assert sm.load("ours.safetensors")[0].sha256 in result.out
    assert mix("ours.safetensors a.safetensors -w uniform -o s.safetensors").status == 0


def test_convert_chooses_among_several_and_refuses_nan(soupmerge: Typed, net: nn.Module) -> None:
    one, two = near(net, 7), near(net, 8)
    checkpoint: dict[str, Any] = {"model": one, "ema": two, "args": argparse.Namespace()}
    torch.save(checkpoint, "both.pt")
    assert soupmerge("convert", "both.pt", "-o", "x.safetensors").status == 3
    words = ("convert", "both.pt", "--weights-key", "ema", "-o", "x.safetensors")
    assert soupmerge(*words).status == 0
    assert equal(plain("x.safetensors"), two)
    assert soupmerge(*words).status == 5
    assert soupmerge(*words, "--force").status == 0
    assert soupmerge("convert", "both.pt", "--weights-key", "ema", "-o", "x.pt").status == 2
    two["head.bias"][0] = float("nan")
    torch.save(checkpoint, "both.pt")
    assert soupmerge(*words[:-1], "y.safetensors").status == 7
    assert not Path("y.safetensors").exists()


def test_convert_reads_shards_and_unties_tensors(soupmerge: Typed) -> None:
    shared = torch.arange(6.0).reshape(2, 3).t()
    torch.save({"a": shared, "b": shared, "args": argparse.Namespace()}, "tied.pt")
    assert soupmerge("convert", "tied.pt", "-o", "x.safetensors").status == 0
    assert equal(plain("x.safetensors"), {"a": shared, "b": shared})

"""Exports: folders that timm loads, and that hold what they should or never appear."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import save_file

import soupmerge as sm
from soupmerge.errors import InputError, OutputError, SoupmergeError
from soupmerge.exports import folder as exporting
from soupmerge.exports import networks
from soupmerge.exports.folder import export, require_export
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.saving import mix_to_file
from tests.exports.soups import TIMM, VIT, soup_of
from tests.shared import Outcome

Typed = Callable[..., Outcome]


@pytest.mark.parametrize(("ref", "dtype"), [(TIMM, None), (VIT, None), (TIMM, "bfloat16")])
def test_timm_loads_what_was_exported(tmp_path: Path, ref: str, dtype: str | None) -> None:
    import timm

    soup = soup_of(ref, tmp_path, dtype=dtype)
    done = export(tmp_path / "out", soup)
    assert (done.loader, done.path) == ("timm", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == soup.read_bytes()
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    state = open_checkpoint(soup)
    assert set(theirs.state_dict()) == set(state)
    assert all(torch.equal(t, state[n].to(t.dtype)) for n, t in theirs.state_dict().items())
    config = theirs.pretrained_cfg
    mean, std = (torch.tensor(config[k]).view(3, 1, 1) for k in ("mean", "std"))
    x = torch.rand(2, *config["input_size"])
    with torch.no_grad():
        expected = sm.bind(sm.model(like=state), state)(x)
        torch.testing.assert_close(theirs((x - mean) / std), expected, rtol=1e-4, atol=1e-4)
    # What timm says of its own weights is not true of the soup's.
    of_weights = {"tag", "license", "origin_url", "paper_ids", "paper_name", "description"}
    written = json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]
    assert not {*of_weights, "notes"} & set(written)
    assert "license" not in config


def test_other_networks_are_exported_for_soupmerge(tmp_path: Path, soupmerge: Typed) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    ended = soupmerge("export", soup, "-o", tmp_path / "out")
    assert ended.status == 0
    assert "only soupmerge loads" in ended.err
    found = sm.load(tmp_path / "out")[0]
    x = torch.rand(2, 1, 8, 8)
    both = [sm.bind(sm.model(like=c), c)(x) for c in (found, open_checkpoint(soup))]
    assert torch.equal(*both)
    parsed = json.loads((tmp_path / "out" / "config.json").read_text())
    assert parsed["soupmerge"] == {"network": "digits-cnn?width=2"}
    text = (tmp_path / "out" / "README.md").read_text()
    assert "timm cannot load it" in text
    assert "library_name: soupmerge" in text


@pytest.mark.parametrize("ref", ["digits-cnn?width=2", TIMM.partition("&mean")[0]])
def test_a_network_that_is_given_is_what_the_folder_names(tmp_path: Path, ref: str) -> None:
    soup = soup_of(ref, tmp_path)
    given = sm.model(f"{ref}&mean=0.3&std=0.1" if "digits" in ref else TIMM)
    done = export(tmp_path / "out", soup, net=given)
    found = sm.load(tmp_path / "out")[0]
    assert found.model == done.network == given.soupmerge_ref
    assert all(torch.equal(found[name], t) for name, t in open_checkpoint(soup).items())
    x = torch.rand(2, 1, 8, 8) if "digits" in ref else torch.rand(2, 3, 64, 64)
    assert torch.equal(sm.bind(sm.model(like=found), found)(x), sm.bind(given, found)(x))


def test_a_judgement_of_something_else_is_refused(tmp_path: Path, soupmerge: Typed) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    judge = ["--data", "digits", "--limit", 4, "-o", tmp_path / "run"]
    assert soupmerge("eval", tmp_path / "a.safetensors", *judge).status == 0
    for run, words in ((tmp_path / "run", "did not judge these weights"), (tmp_path, "not a run")):
        ended = soupmerge("export", soup, "-o", tmp_path / "out", "--judged", run)
        assert (ended.status, words in ended.err) == (3, True), ended.err
    assert not (tmp_path / "out").exists()


def test_what_does_not_load_back_never_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soup = soup_of(TIMM, tmp_path)
    constants = networks.constants
    monkeypatch.setattr(networks, "constants", lambda net: ((0.0,) * 3, constants(net)[1]))
    with pytest.raises(InputError, match="its logits differ by"):
        export(tmp_path / "out", soup)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "soup.safetensors",
    ]


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (lambda home: (home / "out").mkdir(), 5, "already exists"),
        (lambda home: (home / "soup.safetensors").unlink(), 3, "no such file"),
        (lambda home: nan(home / "soup.safetensors"), 7, "NaN"),
        (lambda home: unnamed(home / "soup.safetensors"), 2, "--model"),
        (
            lambda home: noted(home / "soup.safetensors", recipe={"format": 1}),
            3,
            "soup.safetensors: is not a recipe",
        ),
        (lambda home: noted(home / "soup.safetensors", model="os:system"), 4, "could run code"),
        (lambda home: noted(home / "soup.safetensors", model="resnet9"), 3, "does not fit"),
    ],
)
def test_soups_that_cannot_be_exported(
    tmp_path: Path, soupmerge: Typed, spoil: Callable[[Path], Any], status: int, words: str
) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    spoil(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ended = soupmerge("export", soup, "-o", tmp_path / "out")
    assert (ended.status, words in ended.err) == (status, True), ended.err
    assert sorted(tmp_path.rglob("*")) == before


def noted(path: Path, **notes: Any) -> None:
    found = open_checkpoint(path)
    state, result = dict(found), {**found.notes_of_soupmerge, **notes}
    sm.save(path, state, notes=result, force=True)


def unnamed(path: Path) -> None:
    sm.save(path, dict(open_checkpoint(path)), force=True)


def nan(path: Path) -> None:
    state = dict(open_checkpoint(path))
    state[next(iter(state))].fill_(float("nan"))
    sm.save(path, state, model="digits-cnn?width=2", force=True)


def test_mix_exports_what_it_mixed(tmp_path: Path, soupmerge: Typed) -> None:
    soup_of(TIMM, tmp_path)
    ingredients, out = (
        [tmp_path / "a.safetensors", tmp_path / "b.safetensors"],
        tmp_path / "m.safetensors",
    )
    words = [
        "mix",
        *ingredients,
        "-w",
        "uniform",
        "-o",
        out,
        "--export",
        tmp_path / "out",
        "--license",
        "mit",
    ]
    assert soupmerge(*words, "--json").status == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == out.read_bytes()
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license == "mit"
    assert soupmerge(*words, "--force").status == 5  # a folder is never replaced


def test_select_and_learn_export_what_they_wrote(
    ingredients: sm.Ingredients, tmp_path: Path, soupmerge: Typed
) -> None:
    two = [ingredient.ref for ingredient in ingredients[:2]]
    data = ["--data", "digits", "--split", "val", "--limit", 20]
    assert soupmerge("grid", *two, *data, "--step", "1", "-o", tmp_path / "run").status == 0
    picked = ["-o", tmp_path / "picked.safetensors", "--export", tmp_path / "picked"]
    assert soupmerge("select", tmp_path / "run", *picked).status == 0
    assert soupmerge("select", tmp_path / "run", "--export", tmp_path / "other").status == 2
    judged = ["--judge-split", "test", "--judge-limit", 20, "--threat", "linf:0.1", "--steps", 2]
    learning = ["learn", *two, *data, "--epochs", 1, *judged, "-o", tmp_path / "learned"]
    learned = soupmerge(*learning, "--eps", "0.1", "--export", tmp_path / "out")
    assert learned.status == 0, learned.err
    assert "linf\\:0.1" in (tmp_path / "out" / "README.md").read_text()
    for folder, soup in (("picked", "picked"), ("out", "learned/soup")):
        require_export(tmp_path / folder)
        found = sm.load(tmp_path / folder / "model.safetensors")[0]
        assert found.sha256 == sm.load(tmp_path / f"{soup}.safetensors")[0].sha256
    several = [*learning, "--eps", "0,0.1", "--export", tmp_path / "several"]
    assert "takes one soup" in soupmerge(*several).err


def test_only_an_export_is_pushed(tmp_path: Path) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    export(tmp_path / "out", soup)
    (tmp_path / "out" / "secret.txt").write_text("x")
    assert "secret.txt" not in require_export(tmp_path / "out")
    (tmp_path / "out" / "README.md").unlink()
    (tmp_path / "out" / "README.md").symlink_to(soup)
    (tmp_path / "out" / "config.json").unlink()
    with pytest.raises(SoupmergeError, match="config.json is missing") as caught:
        require_export(tmp_path / "out")
    assert "README.md is a link" in str(caught.value)


# ---- What is loaded back is compared with what should be there.


def spoilt(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    """Let the export write other weights than those of the soup: a bug of ours, or of a disk."""

    def write(path: Path, checkpoint: Any, recipe: Any, net: Any) -> None:
        state = {name: tensor.clone() for name, tensor in checkpoint.items()}
        change(state)
        sm.save(path, state, recipe=recipe, model=checkpoint.model)

    monkeypatch.setattr(exporting, "_write_weights", write)


def nudge(state: dict[str, torch.Tensor], name: str) -> None:
    """Move one number of a tensor by the least that a float32 can."""
    flat = state[name].view(-1)
    flat[-1] = torch.nextafter(flat[-1], torch.tensor(float("inf")))


@pytest.mark.parametrize("ref", [TIMM, "digits-cnn?width=2"], ids=["timm", "soupmerge"])
def test_a_number_that_is_off_by_a_bit_is_named_and_nothing_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str
) -> None:
    soup = soup_of(ref, tmp_path)
    name = sorted(n for n, t in open_checkpoint(soup).items() if t.dtype == torch.float32)[0]
    spoilt(monkeypatch, lambda state: nudge(state, name))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="not those of the soup") as caught:
        export(tmp_path / "out", soup)
    assert caught.value.problems == (name,)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("change", ["other", "missing"])
def test_what_the_loader_makes_of_it_is_compared_tensor_by_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    soup = soup_of(TIMM, tmp_path)
    loaded = networks._by_timm

    def wrong(*args: Any) -> Any:
        made, x = loaded(*args)
        if change == "other":
            made.fc.bias = torch.nn.Parameter(made.fc.bias + 1)
        else:
            made.fc = torch.nn.Linear(made.fc.in_features, made.fc.out_features, bias=False)
        return made, x

    monkeypatch.setattr(networks, "_by_timm", wrong)
    with pytest.raises(InputError, match="loads back with other tensors") as caught:
        export(tmp_path / "out", soup)
    found = {"other": "fc.bias: different numbers", "missing": "fc.bias: only in one of them"}
    assert found[change] in caught.value.problems
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "largest", "refused"),
    [
        (9e-5, 0.5, False),
        (2e-4, 0.5, True),
        (9e-4, 10, False),
        (2e-3, 10, True),
        (float("nan"), 1, True),
    ],
)
def test_logits_may_differ_by_rounding_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float, largest: float, refused: bool
) -> None:
    """Rounding is 1e-4 of the largest logit, or of 1 if all are smaller."""
    soup = soup_of(TIMM, tmp_path)
    loaded, bind = networks._by_timm, networks.bind
    logits = torch.tensor([[largest, 0.0, 0.0, 0.0, 0.0]])

    def said(net: torch.nn.Module, answer: torch.Tensor) -> torch.nn.Module:
        net.forward = lambda x: answer  # type: ignore[method-assign]
        return net

    def by_timm(*args: Any) -> Any:
        made, x = loaded(*args)
        off = logits.clone()
        off[0, 1] -= error  # one logit is enough
        return said(made, off), x

    monkeypatch.setattr(networks, "bind", lambda *args: said(bind(*args), logits))
    monkeypatch.setattr(networks, "_by_timm", by_timm)
    if refused:
        with pytest.raises(InputError, match="its logits differ by"):
            export(tmp_path / "out", soup)
    else:
        assert export(tmp_path / "out", soup).difference == pytest.approx(error, rel=1e-2)


def test_a_folder_that_timm_cannot_load_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    soup = soup_of(TIMM, tmp_path)

    create_model = timm.create_model

    def create(name: str, *args: Any, **settings: Any) -> Any:
        if name.startswith("local-dir:"):
            raise RuntimeError("no such network\nsecond line")
        return create_model(name, *args, **settings)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(InputError, match="timm cannot load it: no such network; check --model"):
        export(tmp_path / "out", soup)


def test_the_network_is_asked_about_an_image_of_its_size() -> None:
    small = sm.model("digits-cnn?width=2")
    assert networks._image(small).shape == (1, 1, 32, 32)
    assert networks._image(sm.model(TIMM)).shape == (1, 3, 160, 160)
    fussy = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2))
    assert networks._image(fussy).shape == (1, 3, 8, 8)
    with pytest.raises(InputError, match="accepts no image of"):
        networks._image(torch.nn.Linear(5, 5))


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError("first\nsecond"), "first"), (KeyError(), "KeyError")]
)
def test_why_an_image_is_not_accepted_stands_on_one_line(error: Exception, reason: str) -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise error

    net = torch.nn.Conv2d(5, 1, 1)
    net.forward = fail  # type: ignore[method-assign]
    shapes = "[(5, 32, 32), (5, 224, 224), (5, 8, 8)]"
    with pytest.raises(InputError) as caught:
        networks._image(net)
    assert str(caught.value) == f"the network accepts no image of shape {shapes}: {reason}"


def test_only_files_of_an_export_that_are_whole_are_pushed(tmp_path: Path) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    done = export(tmp_path / "out", soup)
    names = ("model.safetensors", "config.json", "README.md", "recipe.json")
    assert require_export(tmp_path / "out") == names
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["weights"] == {
        "model": [0.25, 0.75]
    }
    assert done.sha256 == open_checkpoint(soup).sha256
    nan(tmp_path / "out" / "model.safetensors")
    with pytest.raises(SoupmergeError, match="NaN"):
        require_export(tmp_path / "out")


def test_a_disk_without_room_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match="bytes, but only 100 are free there"):
        export(tmp_path / "out", soup)
    assert sorted(tmp_path.iterdir()) == before


def test_weights_in_shards_are_written_as_one_file(tmp_path: Path) -> None:
    soup_of("digits-cnn?width=2", tmp_path)
    found = sm.load(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    mix_to_file(tmp_path / "shards", found, sm.Recipe.uniform(found), shard_bytes=1000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    done = export(tmp_path / "out", tmp_path / "shards")
    whole = open_checkpoint(tmp_path / "out" / "model.safetensors")
    assert {n: t.tolist() for n, t in whole.items()} == {
        n: t.tolist() for n, t in open_checkpoint(tmp_path / "shards").items()
    }
    assert whole.model == "digits-cnn?width=2"
    assert whole.notes_of_soupmerge["recipe"]["weights"] == {"model": [0.5, 0.5]}
    assert done.sha256 == whole.sha256


def test_what_timm_says_of_its_own_weights_is_not_said_of_a_soup(tmp_path: Path) -> None:
    theirs = {"tag": "a1", "license": "x", "origin_url": "x", "paper_ids": "x", "paper_name": "x"}
    theirs |= {"description": "x", "notes": ["x"]}
    net = sm.model(TIMM)
    net.pretrained_cfg = {**dict(net.pretrained_cfg), **theirs}
    export(tmp_path / "out", soup_of(TIMM, tmp_path), net=net)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]
    assert not set(theirs) & set(config)
    assert config["num_classes"] == 5
    assert (config["mean"], config["std"]) == ([0.5, 0.4, 0.3], [0.2, 0.2, 0.1])


def test_a_network_without_a_normaliser_takes_images_as_they_are() -> None:
    import timm

    grey = timm.create_model("test_resnet", in_chans=1)
    grey.pretrained_cfg = {**dict(grey.pretrained_cfg), "input_size": (1, 96, 96)}
    assert networks.constants(grey) == ((0.0,), (1.0,))
    assert networks.constants(torch.nn.Identity()) == ((0.0,) * 3, (1.0,) * 3)
    assert networks.constants(sm.model(TIMM)) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


def test_one_file_is_copied_byte_for_byte_whatever_else_it_says(tmp_path: Path) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    with safe_open(soup, "pt") as file:
        metadata = file.metadata() | {"by": "somebody else"}
    save_file(dict(open_checkpoint(soup)), tmp_path / "theirs.safetensors", metadata)
    export(tmp_path / "out", tmp_path / "theirs.safetensors")
    copied = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert copied == (tmp_path / "theirs.safetensors").read_bytes()
    assert b"somebody else" in copied

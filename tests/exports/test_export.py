"""Exports: folders that timm loads, cards that say what was done, commands that do it again."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError
from soupmerge.exports import card, networks
from soupmerge.exports.folder import export, require_export
from soupmerge.weights.files import open_checkpoint
from tests.shared import Outcome, near

Typed = Callable[..., Outcome]
TIMM = "timm:test_resnet?num_classes=5&mean=0.5,0.4,0.3&std=0.2,0.2,0.1"
VIT = "timm:test_vit?num_classes=5&img_size=96"


def soup_of(ref: str, home: Path, *, dtype: str | None = None, **notes: Any) -> Path:
    """Return a soup of two networks *ref*, whose files lie beside it."""
    base = sm.model(ref)
    for seed, name in enumerate(("a", "b"), start=1):
        sm.save(
            home / f"{name}.safetensors", near(base, seed), model=base.soupmerge_ref, notes=notes
        )
    pots = sm.load(home / "a.safetensors", home / "b.safetensors")
    recipe = sm.Recipe.of(pots, [0.25, 0.75], dtype=dtype)
    from soupmerge.weights.mixing import mix_to_file

    mix_to_file(home / "soup.safetensors", pots, recipe)
    return home / "soup.safetensors"


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
    assert "license" not in config  # timm's own weights have one, which is not the soup's


def test_other_networks_are_exported_for_soupmerge(tmp_path: Path, soupmerge: Typed) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    ended = soupmerge("export", soup, "-o", tmp_path / "out")
    assert ended.status == 0
    assert "only soupmerge loads" in ended.err
    found = sm.load(tmp_path / "out")[0]
    x = torch.rand(2, 1, 8, 8)
    both = [sm.bind(sm.model(like=c), c)(x) for c in (found, open_checkpoint(soup))]
    assert torch.equal(*both)
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert told["soupmerge"] == {"network": "digits-cnn?width=2"}
    text = (tmp_path / "out" / "README.md").read_text()
    assert "timm cannot load it" in text
    assert "library_name: soupmerge" in text


def test_the_card_s_commands_make_it_again(
    tmp_path: Path, soupmerge: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    words = ["mix", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "-w", "0.5,0.5"]
    words += ["--buffers", "recalibrate", "--data", "digits", "--split", "train", "--limit", 64]
    anew = tmp_path / "anew.safetensors"
    assert soupmerge(*words, "--threat", "linf:0.1", "--batch-size", 32, "-o", anew).status == 0
    for file in (soup, anew):
        home = tmp_path / file.stem
        export(home, file)
        for pot in "ab":
            shutil.copy(tmp_path / f"{pot}.safetensors", home)
        monkeypatch.chdir(home)
        block = re.findall(r"```bash\n(.*?)```", (home / "README.md").read_text(), re.DOTALL)
        commands = [shlex.split(line)[1:] for line in block[0].splitlines()]
        assert [command[0] for command in commands] == ["mix", "export"]
        assert [soupmerge(*command).status for command in commands] == [0, 0]
        for name in ("model.safetensors", "README.md", "config.json", "recipe.json"):
            assert (home / file.stem / name).read_bytes() == (home / name).read_bytes()


def test_judgements_are_told_with_attack_and_interval(tmp_path: Path, soupmerge: Typed) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    judge = ["--data", "digits", "--limit", 16, "--threat", "linf:1/255", "--attack", "fgsm"]
    assert soupmerge("eval", soup, *judge, "--no-doubts", "-o", tmp_path / "run").status == 0
    ended = soupmerge(
        "export", soup, "-o", tmp_path / "out", "--judged", tmp_path / "run", "--json"
    )
    assert json.loads(ended.out)["loaded back by"] == "soupmerge"
    record = json.loads((tmp_path / "run" / "trials.jsonl").read_text())
    text = (tmp_path / "out" / "README.md").read_text()
    results = ModelCard(text).data.eval_results
    told = {result.metric_name: result for result in results}
    robust = told["robust accuracy, linf:1/255, fgsm-ce, 1 steps"]
    assert robust.metric_value == record["metrics"]["linf:1/255"]["accuracy"]
    assert robust.metric_args["n"] == 16
    assert robust.metric_args["ci95"] == record["metrics"]["linf:1/255"]["ci95"]
    assert (robust.dataset_type, robust.dataset_split) == ("digits", "test")
    assert "clean accuracy" in told
    low, high = (100 * end for end in record["metrics"]["clean"]["ci95"])
    assert f"| {low:.1f}–{high:.1f} | 16 |" in text
    values = json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluations"]
    assert values[0]["metrics"] == record["metrics"]


def test_reports_at_hand_are_told_too(tmp_path: Path) -> None:
    soup = open_checkpoint(soup_of("digits-cnn?width=2", tmp_path))
    images = sm.data("digits", split="test", limit=8)
    report = sm.Benchmark(images, [sm.FGSM(sm.Linf(0.1))])(sm.bind(sm.model(like=soup), soup))
    doubt = {"name": "chance", "what": "no better than <b>chance</b>", "fix": "look again"}
    report = dataclasses.replace(report, notes={"doubts": [doubt]})
    export(tmp_path / "out", tmp_path / "soup.safetensors", reports=[report])
    results = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    text = (tmp_path / "out" / "README.md").read_text()
    assert "- **chance**: no better than \\<b\\>chance\\</b\\>" in text
    assert [r.metric_value for r in results] == [
        round(report.accuracy(m), 6) for m in report.metrics
    ]


def test_a_judgement_of_something_else_is_refused(tmp_path: Path, soupmerge: Typed) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    judge = ["--data", "digits", "--limit", 4, "-o", tmp_path / "run"]
    assert soupmerge("eval", tmp_path / "a.safetensors", *judge).status == 0
    for run, words in ((tmp_path / "run", "did not judge these weights"), (tmp_path, "not a run")):
        ended = soupmerge("export", soup, "-o", tmp_path / "out", "--judged", run)
        assert (ended.status, words in ended.err) == (3, True), ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("licences", "given", "stated"),
    [
        (("mit", "mit"), None, "mit"),
        (("mit", "apache-2.0"), None, None),
        (("mit", None), None, None),
        ((None, None), None, None),
        (("mit", None), "cc-by-4.0", "cc-by-4.0"),
    ],
)
def test_a_licence_is_stated_only_if_it_is_known(
    tmp_path: Path, licences: tuple[str | None, ...], given: str | None, stated: str | None
) -> None:
    base, files = sm.model("digits-cnn?width=2"), []
    for seed, licence in enumerate(licences):
        files.append(tmp_path / f"{seed}.safetensors")
        notes = {"licence": licence} if licence else {}
        sm.save(files[-1], near(base, seed), model="digits-cnn?width=2", notes=notes)
    pots = sm.load(*files)
    from soupmerge.weights.mixing import mix_to_file

    mix_to_file(tmp_path / "soup.safetensors", pots, sm.Recipe.uniform(pots))
    export(tmp_path / "out", tmp_path / "soup.safetensors", licence=given)
    text = (tmp_path / "out" / "README.md").read_text()
    assert ModelCard(text).data.license == stated
    assert text.count("| unknown |") == licences.count(None)
    assert ("No licence is stated" in text) == (stated is None)


EVIL = "a|b<img src=x onerror=alert(1)>[x](javascript:y)`**~~\n---\n# www.evil.example &lt; {{z}} "


def test_strings_of_files_are_shown_and_do_nothing(tmp_path: Path) -> None:
    soup_of("digits-cnn?width=2", tmp_path)
    found = open_checkpoint(tmp_path / "soup.safetensors")
    notes = found.notes_of_soupmerge
    for i, source in enumerate(notes["recipe"]["ingredients"]):
        source["ref"] = f"{EVIL}{i}"
        notes["family"][i]["licence"] = EVIL
    sm.save(tmp_path / "evil.safetensors", found, model=notes["model"], notes=notes)
    done = export(tmp_path / "out", tmp_path / "evil.safetensors", name=EVIL)
    text = (tmp_path / "out" / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    known = {"library_name", "pipeline_tag", "tags", "license"}
    assert set(data) <= known
    body = text.split("\n---\n", 1)[1]
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(body)
    inline = [child for token in page for child in (token.children or ())]
    assert not [t for t in (*page, *inline) if t.type in ("html_inline", "html_block")]
    assert not [t for t in inline if t.type == "link_open"]
    shown = "".join(t.content for t in inline if t.type == "text")
    assert "<img src=x onerror=alert(1)>[x](javascript:y)" in shown
    assert [t.tag for t in page if t.type == "heading_open"] == ["h1"] + ["h2"] * 4
    assert done.sha256 in body


def test_plain_text_stays_what_it_is() -> None:
    for text in (EVIL.replace("\n", " ").strip(), "x_y_z", "1. a", "*", "a@b.c", "\\"):
        page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(
            "x " + card.plain(text)
        )
        assert "".join(t.content for t in page[1].children or ()) == f"x {text}"


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
        (lambda home: (home / "out").mkdir(), 5, "exists already"),
        (lambda home: (home / "soup.safetensors").unlink(), 3, "no such file"),
        (lambda home: nan(home / "soup.safetensors"), 7, "NaN"),
        (lambda home: unnamed(home / "soup.safetensors"), 2, "--model"),
        (lambda home: noted(home / "soup.safetensors", recipe={"format": 1}), 3, "recipe"),
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
    state, told = dict(found), {**found.notes_of_soupmerge, **notes}
    sm.save(path, state, notes=told, force=True)


def unnamed(path: Path) -> None:
    sm.save(path, dict(open_checkpoint(path)), force=True)


def nan(path: Path) -> None:
    state = dict(open_checkpoint(path))
    state[next(iter(state))].fill_(float("nan"))
    sm.save(path, state, model="digits-cnn?width=2", force=True)


def test_weights_that_are_no_soup_are_exported_with_their_tree(tmp_path: Path) -> None:
    soup_of("digits-cnn?width=2", tmp_path)
    export(tmp_path / "out", tmp_path / "a.safetensors")
    assert not (tmp_path / "out" / "recipe.json").exists()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Weights of the network `digits-cnn?width=2`" in text
    assert "a.safetensors (" in text


def test_mix_exports_what_it_mixed(tmp_path: Path, soupmerge: Typed) -> None:
    soup_of(TIMM, tmp_path)
    pots, out = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "m.safetensors"
    words = [
        "mix",
        *pots,
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
    trained: list[Path], tmp_path: Path, soupmerge: Typed
) -> None:
    data = ["--data", "digits", "--split", "val", "--limit", 20]
    assert soupmerge("grid", *trained[:2], *data, "--step", "1", "-o", tmp_path / "run").status == 0
    picked = ["-o", tmp_path / "picked.safetensors", "--export", tmp_path / "picked"]
    assert soupmerge("select", tmp_path / "run", *picked).status == 0
    assert soupmerge("select", tmp_path / "run", "--export", tmp_path / "other").status == 2
    judged = ["--judge-split", "test", "--judge-limit", 20, "--threat", "linf:0.1", "--steps", 2]
    learning = ["learn", *trained[:2], *data, "--epochs", 1, *judged, "-o", tmp_path / "learned"]
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

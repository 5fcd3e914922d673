"""Model cards: every number is that of a file, and nothing private is disclosed."""

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
from soupmerge.errors import InputError
from soupmerge.exports import card
from soupmerge.exports.folder import export
from soupmerge.storage import run_folder
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.saving import mix_to_file
from tests.exports.soups import TIMM, soup_of
from tests.shared import Outcome, near

Typed = Callable[..., Outcome]


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
        for ingredient in "ab":
            shutil.copy(tmp_path / f"{ingredient}.safetensors", home)
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
    found = {result.metric_name: result for result in results}
    robust = found["robust accuracy, linf:1/255, fgsm-ce, 1 steps"]
    assert robust.metric_value == record["metrics"]["linf:1/255"]["accuracy"]
    assert robust.metric_args["n"] == 16
    assert robust.metric_args["ci95"] == record["metrics"]["linf:1/255"]["ci95"]
    assert (robust.dataset_type, robust.dataset_split) == ("digits", "test")
    assert "clean accuracy" in found
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
    ingredients = sm.load(*files)
    mix_to_file(tmp_path / "soup.safetensors", ingredients, sm.Recipe.uniform(ingredients))
    export(tmp_path / "out", tmp_path / "soup.safetensors", licence=given)
    text = (tmp_path / "out" / "README.md").read_text()
    assert ModelCard(text).data.license == stated
    assert text.count("| unknown |") == licences.count(None)
    sentence = "No licence is stated, since the licences of what it was made from differ"
    if stated:
        source = "stated by its publisher" if given else "that of all it was made from"
        sentence = f"Licence: {card.plain(stated)}, {source}."
    assert sentence in text


@pytest.mark.parametrize(
    ("parents", "shown"),
    [(["mit", "mit"], "mit"), (["mit", "bsd"], None), (["mit", None], None), ([None], None)],
)
def test_weights_that_are_no_soup_have_the_licence_of_their_parents(
    tmp_path: Path, parents: list[str | None], shown: str | None
) -> None:
    net = sm.model("digits-cnn?width=2")
    family = [
        {
            "ref": f"{i}",
            "sha256": "a" * 64,
            "made": "from scratch",
            **({"licence": licence} if licence else {}),
        }
        for i, licence in enumerate(parents)
    ]
    notes = {"family": family}
    sm.save(tmp_path / "a.safetensors", net.state_dict(), model=net.soupmerge_ref, notes=notes)
    text = exported(tmp_path, tmp_path / "a.safetensors")
    assert ModelCard(text).data.license == shown


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


def test_weights_that_are_no_soup_are_exported_with_their_tree(tmp_path: Path) -> None:
    soup_of("digits-cnn?width=2", tmp_path)
    name = "a`b.safetensors"  # what would end the block of code that it stands in
    (tmp_path / "a.safetensors").rename(tmp_path / name)
    text = exported(tmp_path, tmp_path / name)
    assert not (tmp_path / "out" / "recipe.json").exists()
    assert "Weights of the network `digits-cnn?width=2`" in text
    tree = text.partition("```text\n")[2].partition("```")[0]
    assert tree.startswith("a'b.safetensors (")
    assert text.count("```") % 2 == 0


# ---- Numbers and names.


def table(text: str, heading: str) -> list[dict[str, str]]:
    """Return the rows of the table below *heading*, as somebody reads it, by its columns."""
    part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [
        [re.sub(r"\\(.)", r"\1", cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in part.splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def report_on(ref: str, *, union: bool = True, **more: Any) -> sm.Report:
    """Return a report on eight images of *ref*: 7 right clean, 5 and 4 under attack, 3 in all."""
    rows = {"clean": "11111110", "linf:0.1": "11111000", "l2:1/2": "00111100"}
    flags = {m: torch.tensor([c == "1" for c in row]) for m, row in rows.items()}
    attacks = {
        "linf:0.1": {"attack": "apgd-ce", "steps": 20},
        "l2:1/2": {"attack": "autoattack-standard"},
    }
    data = {"ref": ref, "split": "test, 8 of it", "n": 8, "sha256": "d" * 64}
    if not union:
        flags, attacks = {"clean": flags["clean"]}, {}
    return sm.Report(data, flags, attacks, **more)


def exported(home: Path, soup: Path, **options: Any) -> str:
    export(home / "out", soup, **options)
    return (home / "out" / "README.md").read_text()


def test_every_ingredient_stands_with_its_coefficient_and_hash(tmp_path: Path) -> None:
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path))
    hashes = [open_checkpoint(tmp_path / f"{name}.safetensors").sha256 for name in "ab"]
    found = [(f"{n}.safetensors", w) for n, w in zip("ab", ("0.25", "0.75"), strict=True)]
    assert table(text, "Ingredients") == [
        {"ingredient": n, "coefficient": w, "licence": "unknown", "sha256": f"`{digest}`"}
        for (n, w), digest in zip(found, hashes, strict=True)
    ]
    assert open_checkpoint(tmp_path / "out").sha256 in text.partition("## Make it again")[2]


def test_coefficients_of_groups_are_told_as_means(tmp_path: Path) -> None:
    rows = [[1.0, 0.0], [0.25, 0.75], [0.1, 0.9], [0.3, 0.7], *([[0.0, 1.0]] * 3)]
    soup = soup_of("digits-cnn?width=2", tmp_path, rows=rows, by="module", affine=False)
    text = exported(tmp_path, soup)
    assert "one for each of 7 groups of tensors" in text
    means = [row["mean coefficient"] for row in table(text, "Ingredients")]
    assert [float(mean) for mean in means] == pytest.approx([1.65 / 7, 5.35 / 7], rel=1e-5)


@pytest.mark.parametrize(
    ("policy", "words"),
    [("average", "averaged like weights"), ("base", "those of one ingredient")],
)
def test_the_statistics_are_told(tmp_path: Path, policy: str, words: str) -> None:
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path, buffers=policy))
    assert f"batch-norm statistics, if it has any, are {words}." in text


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        ("digits", "digits"),
        ("folder:/home/somebody/photos", "folder:photos"),
        ("npz:/home/somebody/x.npz", "npz:x.npz"),
        ("blur-3:folder:/home/somebody/photos/", "blur-3:folder:photos"),
        ("package.module:function", "package.module:function"),
    ],
)
def test_every_accuracy_stands_as_it_was_found_and_the_data_s_folder_is_not_told(
    tmp_path: Path, ref: str, shown: str
) -> None:
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path), reports=[report_on(ref)])
    wilson = {7: "52.9–97.8", 5: "30.6–86.3", 4: "21.5–78.5", 3: "13.7–69.4"}  # by hand
    found = [
        ("clean", 7, "–"),
        ("linf:0.1", 5, "apgd-ce, 20 steps"),
        ("l2:1/2", 4, "autoattack-standard"),
        ("union", 3, "–"),
    ]
    assert table(text, "How it was judged") == [
        {
            "images": f"{shown}, test, 8 of it",
            "metric": metric,
            "accuracy": f"{right / 8:.1%}",
            "95% interval": wilson[right],
            "n": "8",
            "attack": attack,
        }
        for metric, right, attack in found
    ]
    values = (tmp_path / "out" / "evaluation.json").read_text()
    for file in (text, values):
        assert "somebody" not in file
    (evaluation,) = json.loads(values)["evaluations"]
    assert evaluation["data"]["ref"] == shown
    assert {m: t["correct"] for m, t in evaluation["metrics"].items()} == {
        m: c for m, c, _ in found
    }


def test_the_hub_s_metadata_have_the_same_numbers(tmp_path: Path) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    reports = [report_on("digits"), report_on("npz:/x/y.npz", union=False)]
    text = exported(tmp_path, soup, reports=reports, licence="mit", name="my soup")
    data = ModelCard(text).data
    names = {
        "clean": "clean accuracy",
        "linf:0.1": "robust accuracy, linf:0.1, apgd-ce, 20 steps",
        "l2:1/2": "robust accuracy, l2:1/2, autoattack-standard",
        "union": "robust accuracy, union of all threats",
    }
    results = data.eval_results or []
    keys = ("dataset_type", "dataset_name", "dataset_split", "metric_name", "metric_value")
    found = [(*(getattr(r, key) for key in keys), (r.metric_args or {})["n"]) for r in results]
    first = "digits (test, 8 of it, n = 8)"
    wanted = [
        ("digits", first, "test", name, round(reports[0].accuracy(metric), 6), 8)
        for metric, name in names.items()
    ]
    second = ("npz", "npz:y.npz (test, 8 of it, n = 8)", "test", "clean accuracy", 0.875, 8)
    assert sorted(found) == sorted([*wanted, second])
    (union,) = (r.metric_args for r in results if r.metric_name == names["union"])
    assert union["ci95"] == [round(end, 4) for end in reports[0].interval("union")]
    assert (data.license, data.library_name, data.model_name) == ("mit", "soupmerge", "my soup")
    assert data.tags == ["image-classification", "model-soup", "soupmerge"]
    assert data.pipeline_tag == "image-classification"
    assert text.partition("---\n\n")[2].startswith("# my soup\n")


def test_the_outputs_that_count_stand_with_the_accuracy(tmp_path: Path) -> None:
    report = report_on("folder:/home/x/imagenet-r")
    outputs = {"outputs": "200 of 1,000 outputs", "mapping": {"sha256": "f" * 64}}
    report = dataclasses.replace(report, data={**report.data, **outputs})
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path), reports=[report])
    rows = table(text, "How it was judged")
    assert {row["images"] for row in rows} == {
        "folder:imagenet-r, test, 8 of it, 200 of 1,000 outputs"
    }
    results = ModelCard(text).data.eval_results or []
    name = "folder:imagenet-r (test, 8 of it, n = 8, 200 of 1,000 outputs)"
    assert {result.dataset_name for result in results} == {name}
    assert all((r.metric_args or {})["outputs"] == "200 of 1,000 outputs" for r in results)
    (evaluation,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluations"]
    assert evaluation["data"]["mapping"] == {"sha256": "f" * 64}


def test_accuracies_are_given_to_six_digits(tmp_path: Path) -> None:
    flags = {"clean": torch.tensor([True, False, True])}
    report = sm.Report({"ref": "digits", "split": "test", "n": 3, "sha256": "d" * 64}, flags, {})
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path), reports=[report])
    (result,) = ModelCard(text).data.eval_results or []
    assert result.metric_value == 0.666667
    assert table(text, "How it was judged")[0]["accuracy"] == "66.7%"


@pytest.mark.parametrize(
    ("by", "heading"), [("model", "coefficient"), ("glob=head.*", "mean coefficient")]
)
def test_one_row_of_coefficients_is_no_mean(tmp_path: Path, by: str, heading: str) -> None:
    rows = [[0.25, 0.75], [0.5, 0.5]] if by != "model" else [0.375, 0.625]
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path, rows=rows, by=by))
    numbers = [float(row[heading]) for row in table(text, "Ingredients")]
    assert numbers == pytest.approx([0.375, 0.625])
    assert ("one for each of 2 groups of tensors" in text) == (by != "model")


def test_ingredients_on_the_hub_are_linked_and_named_as_bases(tmp_path: Path) -> None:
    found = open_checkpoint(soup_of("digits-cnn?width=2", tmp_path))
    notes = found.notes_of_soupmerge
    commit = "0123456789abcdef" * 2
    notes["recipe"]["ingredients"][0]["ref"] = f"hf-hub:owner/name@{commit}"
    sm.save(tmp_path / "from_hub.safetensors", found, model=notes["model"], notes=notes)
    text = exported(tmp_path, tmp_path / "from_hub.safetensors")
    link = f"[hf-hub:owner/name](https://huggingface.co/owner/name/tree/{commit})"
    assert link in text.replace("\\", "")
    data = ModelCard(text).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (["owner/name"], "merge")


def test_a_soup_that_was_not_judged_says_so(tmp_path: Path) -> None:
    text = exported(tmp_path, soup_of(TIMM, tmp_path))
    assert "It was not judged, or no results were given to the export." in text
    assert ModelCard(text).data.eval_results is None
    assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in text
    assert not (tmp_path / "out" / "evaluation.json").exists()
    assert table(text, "How it was judged") == []


@pytest.mark.parametrize("name", ["recalibrated", "clean"])
def test_the_command_says_on_what_statistics_were_estimated(tmp_path: Path, name: str) -> None:
    soup_of("digits-cnn?width=2", tmp_path)
    ingredients = sm.load(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    attack = None if name == "clean" else {"threat": "linf:0.1", "attack": "apgd-ce", "steps": 10}
    data = {"ref": "folder:/home/x/photos", "split": "train, 64 of it", "n": 64, "sha256": "e" * 64}
    found = {"data": data, "attack": attack, "batch_size": 32, "seed": 3}
    recipe = sm.Recipe.of(ingredients, [0.5, 0.5], buffers="recalibrate")
    recipe = dataclasses.replace(recipe, calibration=found)
    words = list(card._calibration_options(recipe.portable()))
    threat = [] if attack is None else ["--threat", "linf:0.1"]
    data |= {"mapping": {"ref": "imagenet-r", "sha256": "f" * 64}}
    by_name = list(card._calibration_options(recipe))
    assert by_name[4:6] == ["--classes", "imagenet-r"]
    assert words == [
        *("--data", "folder:photos", "--split", "train", "--limit", "64"),
        *threat,
        *("--batch-size", "32", "--seed", "3"),
    ]


def test_doubts_are_kept_with_the_numbers(tmp_path: Path) -> None:
    doubt = {"name": "chance", "what": "it guesses", "fix": "look again"}
    report = report_on("digits", notes={"doubts": [doubt]})
    text = exported(tmp_path, soup_of("digits-cnn?width=2", tmp_path), reports=[report])
    (kept,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluations"]
    assert set(kept) == {"data", "metrics", "doubts"}
    assert kept["doubts"] == [doubt]
    assert "Reasons to doubt these numbers:\n\n- **chance**: it guesses" in text


def test_counts_are_not_told_twice_to_the_hub(tmp_path: Path) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    text = exported(tmp_path, soup, reports=[report_on("digits")])
    results = {r.metric_name: r.metric_args for r in ModelCard(text).data.eval_results or []}
    assert set(results["clean accuracy"]) == {"n", "ci95"}
    assert set(results["robust accuracy, linf:0.1, apgd-ce, 20 steps"]) == {
        "n", "ci95", "attack", "steps",
    }  # fmt: skip


def test_code_cannot_end_early() -> None:
    assert card.code("a`b|c\x1b") == "`a'b¦c\\x1b`"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record.pop("data"),
        lambda record: record.update(data=["digits"]),
        lambda record: record.pop("metrics"),
        lambda record: record.update(metrics=[1]),
        lambda record: record["metrics"]["clean"].pop("accuracy"),
        lambda record: record["metrics"]["clean"].update(accuracy="much"),
        lambda record: record["metrics"]["clean"].update(ci95=[0.5]),
        lambda record: record["metrics"]["clean"].update(n=None),
        lambda record: record.update(notes=[1]),
    ],
    ids=[
        "data",
        "data a list",
        "metrics",
        "metrics a list",
        "accuracy",
        "a word",
        "ci95",
        "n",
        "notes",
    ],
)
def test_a_judgement_that_lacks_something_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    found = report_on("digits")
    record = {"sha256": open_checkpoint(soup).sha256, "ref": "soup", "data": dict(found.data)}
    record = json.loads(json.dumps({**record, **found.to_record()}))
    spoil(record)
    with run_folder.opened(tmp_path / "run", {"command": "eval"}) as folder:
        folder.journal("trials.jsonl").append(record)
    with pytest.raises(InputError, match="run: a record holds no complete report"):
        export(tmp_path / "out", soup, judged=tmp_path / "run")


def test_a_run_that_judged_no_single_network_is_refused(tmp_path: Path) -> None:
    soup = soup_of("digits-cnn?width=2", tmp_path)
    with run_folder.opened(tmp_path / "run", {"command": "grid"}):
        pass
    with pytest.raises(InputError, match=r"a run of 'grid'.*soupmerge eval SOUP -o RUN"):
        export(tmp_path / "out", soup, judged=tmp_path / "run")
    with run_folder.opened(tmp_path / "empty", {"command": "eval"}):
        pass
    with pytest.raises(InputError, match="did not judge these weights .* nothing yet"):
        export(tmp_path / "out", soup, judged=tmp_path / "empty")

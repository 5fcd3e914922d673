"""One door for each kind of addition: an entry in one table, and every command knows the name.

docs/architecture.md shows these examples under "How to add".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import soupmerge as sm
from soupmerge import choices
from soupmerge.choices import LossEntry, Network
from soupmerge.figures.drawing import PICTURES
from soupmerge.figures.reading import RunRecord
from soupmerge.robustness.losses import loss_of
from soupmerge.sources.images.readers import READERS
from soupmerge.types import Generators
from soupmerge.weights.groups import GROUPINGS
from tests.shared import near

Typed = Callable[..., Any]
FEW = ("--data", "digits", "--limit", 8)
LINF = ("--threat", "linf:0.1")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two small networks around one base."""
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for seed, path in enumerate(paths):
        sm.save(path, near(sm.model("digits-cnn?width=2"), seed), model="digits-cnn?width=2")
    return paths


# ---- An attack: a frozen value that can be called, and describes itself.


@dataclass(frozen=True)
class Corner:
    """Moves every pixel by eps, up or down, as the gradient of the loss says: one FGSM step."""

    threat: sm.Threat
    steps: int = 1

    def describe(self) -> dict[str, Any]:
        return {"attack": "corner", "steps": self.steps}

    def __call__(
        self, classifier: sm.Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        x = x.clone().requires_grad_()
        loss = loss_of("ce")(classifier(x), y, y).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        return self.threat.project(x.detach() + self.threat.eps * gradient.sign(), x.detach())


def test_an_attack(soupmerge: Typed, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choices.ATTACKS, "corner", f"{__name__}:Corner")
    ours, theirs = (
        json.loads(soupmerge("eval", files[0], *FEW, *LINF, "--attack", attack, "--json").out)
        for attack in ("corner", "fgsm")
    )
    assert ours["metrics"]["linf:0.1"]["attack"] == "corner"
    assert ours["metrics"]["linf:0.1"]["correct"] == theirs["metrics"]["linf:0.1"]["correct"]


# ---- A loss: a function of logits, labels and target classes; pgd-NAME and apgd-NAME follow.


def confidence(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return −softmax(logits)_y."""
    return -logits.float().softmax(1).gather(1, y[:, None]).squeeze(1)


def test_a_loss(soupmerge: Typed, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choices.LOSSES, "confidence", LossEntry(f"{__name__}:confidence"))
    line = ("eval", files[0], *FEW, *LINF, "--attack", "apgd-confidence", "--steps", 3, "--json")
    judged = json.loads(soupmerge(*line).out)["metrics"]["linf:0.1"]
    assert (judged["attack"], judged["steps"]) == ("apgd-confidence", 3)


# ---- A search: a function that has an evaluator judge n soups.


def halves(evaluator: Any, n: int, goals: Any, seed: int) -> None:
    """Judge the middles of the edges of the simplex."""
    k = len(evaluator.ingredients)
    edges = [(i, j) for i in range(k) for j in range(i)]
    for edge in edges[:n]:
        evaluator.soup([0.5 * (i in edge) for i in range(k)])


def test_a_search(
    soupmerge: Typed, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = choices.SearchMethod(f"{__name__}:halves")
    monkeypatch.setitem(choices.SEARCH_METHODS, "halves", entry)
    line = ("search", *files, *FEW, "--method", "halves", "-n", 5, "-o", tmp_path / "run")
    found = json.loads(soupmerge(*line, "--json").out)
    assert [trial["weights"] for trial in found["trials"]] == [[1, 0], [0, 1], [0.5, 0.5]]


# ---- A grouping: the group of a tensor's name.


def test_a_grouping(
    soupmerge: Typed, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GROUPINGS, "kind", lambda name: name.rpartition(".")[2])
    out = tmp_path / "soup.safetensors"
    weights = ("-w", "1,0", "-w", "bias=0,1")
    assert soupmerge("mix", *files, "--groups", "kind", *weights, "-o", out).status == 0
    soup, (a, b) = sm.load(out)[0], sm.load(*files)
    assert torch.equal(soup["head.weight"], a["head.weight"])
    assert torch.equal(soup["head.bias"], b["head.bias"])


# ---- A reader of data sets: ids, pixels, labels, and the classes.


def stripes(rest: str, split: str) -> Any:
    """Return images whose only bright row is their label."""
    labels = torch.arange(16) % 8
    pixels = torch.eye(8)[labels][:, None, :, None].expand(-1, 1, 8, 8)
    return [f"{i}" for i in range(16)], pixels, labels, 8


def test_a_data_set(soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "stripes", stripes)
    out = tmp_path / "net.safetensors"
    line = ("--model", "digits-cnn?width=2", "--threat", "clean", "--data", "stripes")
    assert soupmerge("finetune", *line, "--epochs", 1, "--augment", "none", "-o", out).status == 0
    assert sm.load(out)[0].notes_of_soupmerge["training"]["data"]["ref"] == "stripes"


# ---- A figure: a function from what a run folder holds to a figure, or None.


def clean_histogram(run: RunRecord) -> Figure | None:
    """Draw how many soups have which clean accuracy."""
    if not run.trials:
        return None
    figure = Figure()
    figure.add_subplot().hist([trial["metrics"]["clean"]["accuracy"] for trial in run.trials])
    return figure


def test_a_figure(
    soupmerge: Typed, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PICTURES, "clean-histogram", clean_histogram)
    assert soupmerge("grid", *files, *FEW, "--step", 1, "-o", tmp_path / "run").status == 0
    assert soupmerge("report", tmp_path / "run").status == 0
    assert (tmp_path / "run" / "figures" / "clean-histogram.png").exists()


# ---- A network: a class or function of num_classes.


class Linear(nn.Sequential):
    """One linear layer."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, side: int = 8) -> None:
        super().__init__(nn.Flatten(), nn.Linear(in_channels * side * side, num_classes))


def test_a_network(soupmerge: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choices.NETWORKS, "linear", Network(f"{__name__}:Linear", 8))
    out = tmp_path / "net.safetensors"
    line = ("--model", "linear", "--threat", "clean", *FEW, "--epochs", 1, "--augment", "none")
    assert soupmerge("finetune", *line, "-o", out).status == 0
    judged = json.loads(soupmerge("eval", out, *FEW, "--json").out)
    assert judged["metrics"]["clean"]["n"] == 8
    assert sm.load(out)[0].numel == 650


# ---- A family of fronts: its start at given corners, and its rows at a preference.


class Switch:
    """W(λ) is the softmax of the logits of the corner with the largest share: it jumps between."""

    affine = False

    def start(self, logits: Any) -> dict[str, Any]:
        return {"logits": logits}

    def rows(self, parameters: Any, at: Any, xp: Any) -> Any:
        return parameters["logits"][max(range(len(at)), key=lambda t: at[t])]


def test_a_family(
    soupmerge: Typed, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(choices.FAMILIES, "switch", f"{__name__}:Switch")
    ingredients, images = sm.load(*files), sm.data("digits", split="train", limit=8)
    settings, run = sm.Settings(family="switch", epochs=1), sm.Run(tmp_path / "run")
    goals = [sm.clean(), sm.against(sm.Linf(0.1))]
    net = sm.model(like=ingredients)
    front = sm.front(net, ingredients, images, goals, settings=settings, run=run).front
    assert front.at(0.2).weights == front.at(0).weights != front.at(0.8).weights
    out = tmp_path / "soup.safetensors"
    line = ("mix", "--recipe", tmp_path / "run" / "front.json", "--at", 0.8, "-o", out)
    assert soupmerge(*line).status == 0
    mixed = sm.mix(ingredients, front.at(1))
    assert all(torch.equal(tensor, mixed[name]) for name, tensor in sm.load(out)[0].items())

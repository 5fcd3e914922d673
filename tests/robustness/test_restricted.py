"""A network asked by some of its outputs is the network that has only these, under every attack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.robustness.attacks import APGD, PGD
from soupmerge.robustness.doubts import CHECKS
from tests.shared import near

SUBSET = sm.Outputs(((7,), (1,), (4,), (3,), (0,)), of=10)
GROUPS = sm.Outputs(((7, 2), (1,), (4, 9, 8), (3,), (0,)), of=10)
PLAIN = sm.data("digits", split="train", limit=60)
OF_CLASS = torch.tensor([4, 1, 0, 3, 2, 0, 0, 0, 0, 0])
DATA = replace(PLAIN, labels=OF_CLASS[PLAIN.labels], classes=5)
"""Digits with labels of five classes, which the network gets right or wrong by chance."""


class Restricted(nn.Module):
    """The network *module*, written to answer by *outputs* alone."""

    def __init__(self, module: nn.Module, outputs: sm.Outputs) -> None:
        super().__init__()
        self.module, self.groups = module, [list(group) for group in outputs.groups]

    def forward(self, x: Tensor) -> Tensor:
        z = self.module(x)
        if all(len(group) == 1 for group in self.groups):
            return z[:, [i for (i,) in self.groups]]
        log = z.float().log_softmax(1)
        means = [log[:, g].logsumexp(1) - torch.tensor(float(len(g))).log() for g in self.groups]
        return torch.stack(means, 1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A network that was trained on the five classes for a little while."""
    made = sm.model("digits-cnn?width=8", seed=0)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.01)
    x, y = DATA.batch(torch.arange(len(DATA)))
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(SUBSET(made(x)), y).backward()
        optimiser.step()
    return made.eval().requires_grad_(False)


THREAT = sm.Linf(0.15)
ATTACKS = {
    "pgd": PGD(THREAT, steps=3),
    "apgd-ce": APGD(THREAT, steps=5),
    "apgd-dlr": APGD(THREAT, steps=5, loss="dlr"),
    "apgd-t": APGD(THREAT, steps=3, loss="dlr-t", targets=3),
    "margin-t": APGD(THREAT, steps=3, loss="margin-t", targets=2),
    "twice": sm.preset("apgd-ce+t", THREAT, 3),
}


@pytest.mark.parametrize("outputs", [SUBSET, GROUPS], ids=["subset", "groups"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_verdicts_are_those_of_the_network_with_these_outputs_only(
    net: nn.Module, attack: sm.Attack, outputs: sm.Outputs
) -> None:
    by_data = sm.Benchmark(replace(DATA, outputs=outputs), [attack], batch_size=16)(net)
    by_hand = sm.Benchmark(DATA, [attack], batch_size=16)(Restricted(net, outputs).eval())
    assert by_data.flags["clean"].equal(by_hand.flags["clean"])
    assert by_data.right("union").equal(by_hand.right("union"))
    assert by_data.cost["gradient_evaluations"] == by_hand.cost["gradient_evaluations"]
    assert 0 < by_data.correct("union") < by_data.correct("clean"), "the attack does something"


def test_attacks_in_bfloat16_are_restricted_too(net: nn.Module) -> None:
    judge = sm.Benchmark(
        replace(DATA, outputs=SUBSET), [ATTACKS["apgd-dlr"]], precision="bf16", batch_size=16
    )
    exact = replace(judge, precision="fp32")(net)
    report = judge(net)
    assert report.flags["clean"].equal(exact.flags["clean"])
    assert abs(report.correct("union") - exact.correct("union")) <= 2
    assert report.data["outputs"] == "5 of 10 outputs"


def test_autoattack_asks_about_the_classes_of_the_data(net: nn.Module) -> None:
    few = DATA.take(torch.arange(2), "few")
    attack = sm.AutoAttack(THREAT, version="custom", attacks=("apgd-ce", "fab-t"))
    by_data = sm.Benchmark(replace(few, outputs=SUBSET), [attack])(net)
    by_hand = sm.Benchmark(few, [attack])(Restricted(net, SUBSET).eval())
    assert by_data.right("union").equal(by_hand.right("union"))


def test_doubts_are_those_of_the_network_with_these_outputs_only(net: nn.Module) -> None:
    restricted, data = Restricted(net, SUBSET).eval(), replace(DATA, outputs=SUBSET)
    attack = ATTACKS["apgd-dlr"]
    names = [name for name in CHECKS if name != "probabilities"]
    found = []
    for classifier, images, source in ((net, data, net), (restricted, DATA, restricted)):
        judge = sm.Benchmark(images, [attack], batch_size=16)
        report = judge(classifier)
        sources = {"transfer_from": [source]}
        found.append(sm.doubts(classifier, judge, report, n=16, checks=names, **sources))
    assert found[0] == found[1]


def test_a_loss_that_needs_more_classes_than_there_are_is_doubted(net: nn.Module) -> None:
    two = replace(DATA, outputs=sm.Outputs(((1,), (7,)), of=10), labels=DATA.labels % 2, classes=2)
    judge = sm.Benchmark(two, [ATTACKS["apgd-dlr"]])
    (doubt,) = sm.doubts(net, judge, judge(net), checks=["classes"])
    assert "needs 3 classes, not 2" in doubt.what


def test_probabilities_are_told_by_all_outputs(net: nn.Module) -> None:
    softmax = nn.Sequential(net, nn.Softmax(1)).eval()
    judge = sm.Benchmark(replace(DATA, outputs=SUBSET))
    (doubt,) = sm.doubts(softmax, judge, judge(softmax), checks=["probabilities"])
    assert "sums to 1" in doubt.what


def test_soups_learn_and_have_barriers_by_the_outputs_that_count(
    net: nn.Module, tmp_path: Path
) -> None:
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, file in enumerate(files, 1):
        sm.save(file, near(net, seed))
    nets = sm.load(*files)
    data, settings = replace(DATA, outputs=SUBSET), sm.Settings(epochs=1, batch_size=20)
    restricted, objective = Restricted(net, SUBSET), sm.against(sm.Linf(0.05), steps=2)
    by_data = sm.learn(net, nets, data, objective, settings=settings)
    by_hand = sm.learn(restricted, nets, DATA, objective, settings=settings)
    assert by_data.recipe.weights == by_hand.recipe.weights
    judge = sm.Benchmark(data, [sm.FGSM(THREAT)])
    plain = replace(judge, data=DATA)
    barriers = sm.barrier(net, nets, judge, points=3)
    assert barriers == sm.barrier(restricted, nets, plain, points=3)
    sm.save(tmp_path / "3.safetensors", near(net, 3))
    three = sm.load(*files, tmp_path / "3.safetensors")
    plane = sm.landscape(net, three, judge, points=2)
    assert plane.points == sm.landscape(restricted, three, plain, points=2).points


def test_finetuning_moves_the_outputs_that_count(net: nn.Module, tmp_path: Path) -> None:
    schedule = sm.Schedule(epochs=1, batch_size=20, augment="none", weight_decay=0)
    objective, out = sm.against(sm.Linf(0.05), steps=1), tmp_path / "a.safetensors"
    sm.finetune(net, replace(DATA, outputs=SUBSET), objective, out, schedule=schedule)
    by_hand = tmp_path / "b.safetensors"
    sm.finetune(Restricted(net, SUBSET), DATA, objective, by_hand, schedule=schedule)
    ours, theirs = sm.load(out)[0], sm.load(by_hand)[0]
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    moved = (ours["head.bias"] - net.state_dict()["head.bias"]).nonzero().flatten()
    assert set(moved.tolist()) == {0, 1, 3, 4, 7}


def test_statistics_are_estimated_on_attacks_within_the_classes(net: nn.Module) -> None:
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    attack = APGD.training(THREAT, steps=2)
    by_data = sm.recalibrate(net, state, sm.Calibration(replace(DATA, outputs=SUBSET), attack))
    restricted = Restricted(net, SUBSET)
    by_hand = sm.recalibrate(restricted, state, sm.Calibration(DATA, attack))
    assert all(by_data[name].equal(by_hand[name]) for name in by_data)

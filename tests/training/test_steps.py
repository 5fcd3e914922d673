"""One step after the other: what torch's own optimiser and schedulers do, on crafted images."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR

import soupmerge as sm
from soupmerge.schedule import order, stream
from soupmerge.training.augment import crop_flip

N, BATCH, EPOCHS, STEPS = 20, 8, 3, 3
"""Three steps an epoch, the last of them on four images."""


@pytest.fixture(scope="module")
def digits() -> sm.Images:
    return sm.data("digits", split="train", limit=N)


def linear() -> nn.Module:
    net = nn.Sequential(OrderedDict(rows=nn.Flatten(), last=nn.Linear(64, 10)))
    noise = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=noise)
    return net


def trained(net: nn.Module, objective: Any, home: Path, **settings: Any) -> Any:
    schedule = sm.Schedule(
        **{"epochs": EPOCHS, "lr": 0.3, "batch_size": BATCH, "augment": "none", **settings}
    )
    data = sm.data("digits", split="train", limit=N)
    return sm.load(
        sm.finetune(net, data, objective, home / "a.safetensors", schedule=schedule, seed=4)
    )[0]


@pytest.mark.parametrize(
    ("settings", "rises"),
    [
        ({}, 0),
        ({"momentum": 0.0}, 0),
        ({"weight_decay": 0.05}, 0),
        ({"warmup": 1.0}, 3),
        ({"warmup": 1.5, "momentum": 0.5, "weight_decay": 0.01}, 4),
        ({"augment": "crop-flip"}, 0),
    ],
    ids=str,
)
def test_training_is_torch_s_sgd_on_torch_s_schedulers(
    digits: sm.Images, tmp_path: Path, settings: dict[str, Any], rises: int
) -> None:
    """A cosine over all steps; with warm-up, it first rises in equal parts to the cosine."""
    written = trained(linear(), sm.against(None), tmp_path, **settings)
    twin, total = linear(), EPOCHS * STEPS
    optimiser = torch.optim.SGD(
        twin.parameters(),
        lr=0.3,
        momentum=settings.get("momentum", 0.9),
        weight_decay=settings.get("weight_decay", 0.0),
    )
    cosine = CosineAnnealingLR(optimiser, total)
    rise = LinearLR(optimiser, start_factor=1 / (rises + 1), total_iters=max(rises, 1))
    scheduler = ChainedScheduler([cosine, rise] if rises else [cosine])
    history = []
    for epoch in range(EPOCHS):
        losses, right = 0.0, 0
        for step, indices in enumerate(order(N, 4, epoch).split(BATCH)):
            x, y = digits.batch(indices)
            if settings.get("augment"):
                x = crop_flip(x, stream("augment", 4, epoch, step))
            logits = twin(x)
            loss = F.cross_entropy(logits, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            scheduler.step()
            losses += loss.item() * len(y)
            right += int((logits.argmax(1) == y).sum())
        history.append((epoch + 1, losses / N, right / N))
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(written[name], tensor, rtol=1e-5, atol=1e-6)
    lines = (tmp_path / "a.run" / "history.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    assert [(t["epoch"], t["accuracy"]) for t in parsed] == [(e, a) for e, _, a in history]
    assert [t["loss"] for t in parsed] == pytest.approx([loss for _, loss, _ in history], rel=1e-5)


def watching(log: list[dict[str, Any]]) -> nn.Module:
    """Return a network with statistics that tells *log* how it is whenever it is asked."""

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
            self.mix = nn.Conv2d(2, 2, 3)
            self.drop, self.last = nn.Dropout(0.3), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            log[-1] |= {
                "modes": [m.training for m in self.modules()],
                "gradients": [p.requires_grad for p in self.parameters()],
                "statistics": [b.tolist() for b in self.buffers()],
                "bf16": torch.is_autocast_enabled("cpu"),
                "quick": self.mix.weight.is_contiguous(memory_format=torch.channels_last),
            }
            z: Tensor = self.last(self.drop(self.mix(self.norm(self.conv(x))).flatten(1)))
            return z

    return Watching()


class Spy:
    """An objective that writes down what it is given, and has the network write down its part."""

    def __init__(self) -> None:
        self.log: list[dict[str, Any]] = [{}]
        self.net = watching(self.log)

    def describe(self) -> dict[str, Any]:
        return {"objective": "spy"}

    def craft(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        noise = torch.rand(2, generator=generator).tolist()
        self.log.append({"does": "craft", "x": x, "y": y, "noise": noise})
        self.log[-1]["dtype"] = classifier(x).dtype
        classifier(x)
        return 1 - x

    def loss(self, classifier: Any, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        self.log.append({"does": "loss", "x": x, "y": y, "x_adv": x_adv})
        logits: Tensor = classifier(x_adv)
        self.log[-1]["dtype"] = logits.dtype
        return F.cross_entropy(logits, y)

    def seen(self, does: str) -> list[dict[str, Any]]:
        return [each for each in self.log if each.get("does") == does]


def test_images_are_crafted_in_evaluation_mode_and_steps_are_taken_in_training_mode(
    tmp_path: Path,
) -> None:
    """No statistic moves and no weight takes a gradient while images are crafted."""
    spy = Spy()
    net = spy.net.eval().requires_grad_(False)
    trained(net, spy, tmp_path, epochs=2)
    crafted, stepped = spy.seen("craft"), spy.seen("loss")
    assert len(crafted) == len(stepped) == 2 * STEPS
    for craft, step in zip(crafted, stepped, strict=True):
        assert set(craft["modes"]) == set(craft["gradients"]) == {False}
        assert set(step["modes"]) == set(step["gradients"]) == {True}
        assert craft["quick"], "in the layout in which convolutions run fastest"
        assert craft["statistics"] == step["statistics"], "each is as it was before its pass"
    assert crafted[0]["statistics"] == [[0.0] * 2, [1.0] * 2, 0]
    assert [step["statistics"][2] for step in stepped] == list(range(2 * STEPS))
    assert {m.training for m in net.modules()} == {False}, "the caller's network is left alone"
    assert not any(p.requires_grad for p in net.parameters())
    assert [b.tolist() for b in net.buffers()] == [[0.0] * 2, [1.0] * 2, 0]


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_every_step_has_its_own_images_and_noise(
    digits: sm.Images, tmp_path: Path, augment: str
) -> None:
    """All depends on seed, epoch and step alone, and the loss is taken on what was crafted."""
    spy = Spy()
    trained(spy.net, spy, tmp_path, epochs=2, augment=augment)
    steps = [(epoch, step) for epoch in range(2) for step in range(STEPS)]
    for (epoch, step), craft, loss in zip(steps, spy.seen("craft"), spy.seen("loss"), strict=True):
        x, y = digits.batch(order(N, 4, epoch).split(BATCH)[step])
        if augment == "crop-flip":
            x = crop_flip(x, stream("augment", 4, epoch, step))
        for seen in (craft, loss):
            assert torch.equal(seen["x"], x)
            assert torch.equal(seen["y"], y)
        assert torch.equal(loss["x_adv"], 1 - x)
        noise = torch.rand(2, generator=stream("attack", 4, epoch, step)).tolist()
        assert craft["noise"] == noise


@pytest.mark.parametrize(("precision", "half"), [("fp32", False), ("bf16", True)])
def test_craft_and_loss_compute_in_the_precision_that_is_given(
    tmp_path: Path, precision: str, half: bool
) -> None:
    """Logits come out in float32 all the same, and weights stay float32."""
    spy = Spy()
    written = trained(spy.net, spy, tmp_path, epochs=1, precision=precision)
    for seen in (*spy.seen("craft"), *spy.seen("loss")):
        assert seen["dtype"] == torch.float32
        assert seen["bf16"] == half
    floating = [t for t in written.values() if t.is_floating_point()]
    assert {tensor.dtype for tensor in floating} == {torch.float32}

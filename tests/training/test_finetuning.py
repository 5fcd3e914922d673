"""Making ingredients: what SGD would do, resumable at any step, nothing else touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import NumericsError, OutputError, UsageError
from soupmerge.schedule import cosine, order
from soupmerge.storage.snapshot import Snapshot
from soupmerge.training.augment import crop_flip
from soupmerge.types import quiet
from tests.shared import Stop, stop_at

SHORT = sm.Schedule(epochs=2, lr=0.05, batch_size=32, augment="none")


@pytest.fixture(scope="module")
def digits() -> sm.Images:
    return sm.data("digits", split="train", limit=96)


def test_clean_training_is_torch_s_sgd(net: nn.Module, digits: sm.Images, tmp_path: Path) -> None:
    out = sm.finetune(net, digits, sm.against(None), tmp_path / "a.safetensors", schedule=SHORT)
    twin = sm.model("digits-cnn?width=4").train()
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    steps = 0
    for epoch in range(2):
        for indices in order(96, 0, epoch).split(32):
            x, y = digits.batch(indices)
            optimiser.param_groups[0]["lr"] = cosine(0.05, steps, 6)
            optimiser.zero_grad()
            nn.functional.cross_entropy(twin(x), y).backward()
            optimiser.step()
            steps += 1
    written = sm.load(out)[0]
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(written[name], tensor, rtol=1e-3, atol=1e-4)


def test_cosine_agrees_with_torch() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=10.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50)
    for step in range(50):
        assert cosine(10.0, step, 50) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize("threat", [sm.Linf(0.1), sm.L2(0.5), sm.L1(3.0), None], ids=str)
def test_every_kind_of_ingredient_can_be_made(
    net: nn.Module, digits: sm.Images, tmp_path: Path, threat: sm.Threat | None
) -> None:
    before = {n: t.clone() for n, t in net.state_dict().items()}
    random = torch.get_rng_state()
    out = sm.finetune(net, digits, sm.against(threat), tmp_path / "a.safetensors", schedule=SHORT)
    pot = sm.load(out)[0]
    assert pot.model == "digits-cnn?width=4"
    training = pot.notes_of_soupmerge["training"]
    assert training["data"] == digits.fingerprint()
    assert training["objective"] == sm.against(threat).describe()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert not net.training


def test_a_killed_training_resumes_to_the_same_bytes(
    net: nn.Module, digits: sm.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshot, "due", lambda self: True)
    schedule = sm.Schedule(epochs=3, lr=0.05, batch_size=32, every=2)

    def train(name: str, progress: Any = quiet) -> bytes:
        objective = sm.against(sm.Linf(0.1))
        out = tmp_path / name / "a.safetensors"
        out.parent.mkdir(exist_ok=True)
        sm.finetune(net, digits, objective, out, schedule=schedule, progress=progress)
        return out.read_bytes()

    whole = train("whole")
    for n in (1, 2, 4):
        with pytest.raises(Stop):
            train("cut", stop_at(n, "steps"))
    assert train("cut") == whole
    assert train("cut", stop_at(1, "steps")) == whole  # finished: not a step is taken
    for folder in ("whole", "cut"):
        found = sorted(f.name for f in (tmp_path / folder).rglob("*") if f.is_file())
        wanted = [
            ".lock",
            "a-epoch2.safetensors",
            "a.safetensors",
            "history.jsonl",
            "manifest.json",
        ]
        assert [f for f in found if f != ".lock"] == wanted[1:]
    for name in ("history.jsonl", "manifest.json"):
        a, b = (tmp_path / f / "a.run" / name for f in ("whole", "cut"))
        assert a.read_bytes() == b.read_bytes()


def test_another_s_output_is_left_alone(net: nn.Module, digits: sm.Images, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
    assert out.read_text() == "precious"
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT, force=True)
    with pytest.raises(UsageError, match=r"schedule.lr was 0.05, now 0.1"):
        sm.finetune(
            net,
            digits,
            sm.against(None),
            out,
            schedule=sm.Schedule(epochs=2, lr=0.1, batch_size=32, augment="none"),
        )


class Explodes:
    """An objective that is no number from its fourth batch on."""

    def __init__(self) -> None:
        self.batches = 0

    def describe(self) -> dict[str, Any]:
        return {"objective": "explodes"}

    def craft(self, classifier: Any, x: torch.Tensor, y: Any, *, generator: Any) -> torch.Tensor:
        return x

    def loss(self, classifier: Any, x: Any, x_adv: Any, y: Any) -> torch.Tensor:
        self.batches += 1
        loss = nn.functional.cross_entropy(classifier(x), y)
        return loss if self.batches < 4 else loss * torch.nan


def test_a_loss_that_explodes_stops_and_keeps_the_last_good_state(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    with pytest.raises(NumericsError, match="epoch 2, step 1: the loss is not finite"):
        sm.finetune(net, digits, Explodes(), tmp_path / "a.safetensors", schedule=SHORT)
    assert not (tmp_path / "a.safetensors").exists()
    kept = Snapshot(tmp_path / "a.run" / "state.safetensors").load()
    assert kept is not None
    assert kept[1]["epoch"] == 1
    assert all(bool(torch.isfinite(t).all()) for t in kept[0].values())


def test_inputs_and_strangers_are_never_overwritten(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    base = tmp_path / "x-epoch1.safetensors"
    sm.finetune(net, digits, sm.against(None), base, schedule=SHORT)
    pot, kept = sm.load(base)[0], base.read_bytes()
    each = sm.Schedule(epochs=2, lr=0.05, batch_size=32, augment="none", every=1)
    for out, schedule in ((tmp_path / "x.safetensors", each), (base, SHORT)):
        with pytest.raises(UsageError, match="also an input"):
            sm.finetune(net, digits, sm.against(None), out, base=pot, schedule=schedule, force=True)
    assert base.read_bytes() == kept
    out = tmp_path / "y.safetensors"
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
    out.write_bytes(b"a stranger's")
    with pytest.raises(OutputError, match="exists already"):
        sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
    assert out.read_bytes() == b"a stranger's"


def test_crop_and_flip_move_images_within_their_padding() -> None:
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    moved = crop_flip(x, torch.Generator().manual_seed(1), padding=2)
    assert moved.shape == x.shape
    assert torch.equal(moved, crop_flip(x, torch.Generator().manual_seed(1), padding=2))
    padded = nn.functional.pad(x, [2] * 4)
    for image, source in zip(moved, padded, strict=True):
        crops = [source[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        assert any(torch.equal(image, c) or torch.equal(image, c.flip(2)) for c in crops)
    mirrored = crop_flip(x, torch.Generator().manual_seed(1), padding=0)
    kept = sum(torch.equal(a, b) for a, b in zip(mirrored, x, strict=True))
    assert 16 < kept < 48

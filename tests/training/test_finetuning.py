"""Making ingredients: resumable at any step, recorded in the files, nothing else touched."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, NumericsError, OutputError, UsageError
from soupmerge.storage.run_folder import SMALL
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import quiet
from soupmerge.weights.lineage import node_of
from tests.shared import Stop, files_of, stop_at

SHORT = sm.Schedule(epochs=2, lr=0.05, batch_size=8, augment="none")


@pytest.fixture(scope="module")
def digits() -> sm.Images:
    return sm.data("digits", split="train", limit=20)


@pytest.fixture
def net() -> nn.Module:
    layers = OrderedDict(norm=nn.BatchNorm2d(1), rows=nn.Flatten(), last=nn.Linear(64, 10))
    net = nn.Sequential(layers).eval()
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        parameter.data = 0.3 * noise
    return net


def state(net: nn.Module) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("threat", [sm.Linf(0.1), sm.L2(0.5), sm.L1(3.0), None], ids=str)
def test_every_kind_of_ingredient_can_be_made_and_tells_how(
    net: nn.Module, digits: sm.Images, tmp_path: Path, threat: sm.Threat | None
) -> None:
    before, random = state(net), torch.get_rng_state()
    objective, out = sm.against(threat), tmp_path / "a.safetensors"
    assert sm.finetune(net, digits, objective, out, schedule=SHORT, seed=3) == out
    found = sm.load(out)[0].notes_of_soupmerge["training"]
    assert found == {
        "base": None,
        "data": digits.fingerprint(),
        "objective": objective.describe(),
        "schedule": asdict(SHORT),
        "seed": 3,
        "device": "cpu",
        "decisions": {"batch norm": "evaluation mode to craft, training mode to step"},
        "epochs done": 2,
    }
    assert torch.equal(torch.get_rng_state(), random)
    assert state(net) == before
    assert not net.training
    manifest = json.loads((tmp_path / "a.run" / "manifest.json").read_text())
    assert manifest["command"] == "finetune"
    assert manifest["model"] is None
    assert {key: manifest[key] for key in found if key in manifest} == {
        key: value for key, value in found.items() if key != "epochs done"
    }


def test_a_network_without_batch_norms_settles_nothing_of_them(
    digits: sm.Images, tmp_path: Path
) -> None:
    plain = nn.Sequential(OrderedDict(rows=nn.Flatten(), last=nn.Linear(64, 10)))
    out = sm.finetune(plain, digits, sm.against(None), tmp_path / "a.safetensors", schedule=SHORT)
    assert sm.load(out)[0].notes_of_soupmerge["training"]["decisions"] == {}


def test_a_network_of_a_known_kind_is_named_in_manifest_and_file(
    digits: sm.Images, tmp_path: Path
) -> None:
    net, out = sm.model("digits-cnn"), tmp_path / "a.safetensors"
    schedule = replace(SHORT, epochs=1, batch_size=20)
    sm.finetune(net, digits, sm.against(None), out, schedule=schedule)
    manifest = json.loads((tmp_path / "a.run" / "manifest.json").read_text())
    assert manifest["model"] == sm.load(out)[0].notes_of_soupmerge["model"] == "digits-cnn"
    assert manifest["seed"] == 0


@pytest.mark.parametrize(("every", "files"), [(0, 1), (1, 3), (2, 2)])
def test_weights_momentum_and_every_output_must_fit_on_the_disk(
    net: nn.Module,
    digits: sm.Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    files: int,
) -> None:
    """Weights and momentum twice, as the state is replaced as a whole."""
    numbers = sum(t.nbytes for t in net.state_dict().values())
    usage, needed = shutil.disk_usage(tmp_path), (files + 4) * numbers
    out, schedule = tmp_path / "a.safetensors", replace(SHORT, every=every)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SMALL + needed - 1))
    with pytest.raises(OutputError, match=f"needs {SMALL + needed:,} bytes"):
        sm.finetune(net, digits, sm.against(None), out, schedule=schedule)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SMALL + needed))
    sm.finetune(net, digits, sm.against(None), out, schedule=schedule)


def test_a_base_is_where_training_starts_and_is_told_by_name_and_hash(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    """One that starts from its weights in another network's place is the same but for that."""
    first = tmp_path / "base.safetensors"
    sm.finetune(net, digits, sm.against(None), first, schedule=SHORT)
    base, again, alone = sm.load(first)[0], tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    bound = sm.bind(net, base)
    sm.finetune(net, digits, sm.against(None), again, base=base, schedule=SHORT)
    sm.finetune(bound, digits, sm.against(None), alone, schedule=SHORT)
    found, expected = sm.load(again)[0], sm.load(alone)[0]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    result = found.notes_of_soupmerge
    assert result["training"]["base"] == {"ref": "base.safetensors", "sha256": base.sha256}
    assert result["family"] == [node_of(base)]
    assert "family" not in expected.notes_of_soupmerge
    assert expected.notes_of_soupmerge["training"]["base"] is None


def test_the_ledger_tells_of_all_images_behind_it(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    """Trained on one set and then on another: both are recorded, the second once however often."""
    others, base, refs = digits.take(torch.arange(9), "nine of them"), None, []
    for i, data in enumerate((digits, others, others)):
        out = tmp_path / f"{i}.safetensors"
        sm.finetune(net, data, sm.against(None), out, base=base, schedule=SHORT)
        base = sm.load(out)[0]
        ledger = base.notes_of_soupmerge["seen"]
        refs.append([entry["sha256"] for entry in ledger])
        assert all(entry["by"] == "finetune" for entry in ledger)
        assert all(entry["purpose"] == "trained on" for entry in ledger)
    one, two = digits.fingerprint()["sha256"], others.fingerprint()["sha256"]
    assert refs == [[one], [one, two], [one, two]]


def test_where_data_are_is_told_by_their_name_alone(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    placed = replace(digits, ref="folder:/home/someone/images")
    out = sm.finetune(net, placed, sm.against(None), tmp_path / "a.safetensors", schedule=SHORT)
    assert b"/home" not in out.read_bytes()
    assert sm.load(out)[0].notes_of_soupmerge["training"]["data"]["ref"] == "folder:images"


def test_a_killed_training_resumes_to_the_same_bytes(
    net: nn.Module, digits: sm.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any step, with a state that is kept before each, or after each epoch alone."""
    schedule = replace(SHORT, epochs=3, every=2)

    def train(name: str, progress: Any = quiet) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        out = tmp_path / name / "a.safetensors"
        objective = sm.against(sm.Linf(0.1))
        sm.finetune(net, digits, objective, out, schedule=schedule, progress=progress)

    begun: list[int] = []
    train("whole")
    for due in (True, False):
        monkeypatch.setattr(Snapshot, "due", lambda self, due=due: due)
        cut = f"cut {due}"
        for n in (1, 2, 4, 2):
            with pytest.raises(Stop):
                train(cut, stop_at(n, "steps"))
        begun.clear()
        train(cut, lambda what, done, *_: begun.append(done))
        # The last kill was in the second step after the one before it; kept is what came before.
        assert begun[0] == (6 if due else 4)
        assert files_of(tmp_path / cut) == files_of(tmp_path / "whole")
    assert sorted(files_of(tmp_path / "whole")) == [
        "a-epoch2.safetensors",
        "a.run/history.jsonl",
        "a.run/manifest.json",
        "a.safetensors",
    ]
    early = sm.load(tmp_path / "whole" / "a-epoch2.safetensors")[0]
    assert early.notes_of_soupmerge["training"]["epochs done"] == 2


def test_progress_counts_steps_and_what_is_finished_takes_none(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, int, str]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        calls.append((what, done, total, note))

    out = tmp_path / "a.safetensors"
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT, progress=progress)
    assert [t[:3] for t in calls] == [("steps", i, 6) for i in range(1, 7)]
    history = (tmp_path / "a.run" / "history.jsonl").read_text().splitlines()
    for i, line in ((2, history[0]), (5, history[1])):
        epoch = json.loads(line)
        assert calls[i][3] == f"loss {epoch['loss']:.3f}, accuracy {epoch['accuracy']:.1%}"
    calls.clear()
    kept = out.read_bytes()
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT, progress=progress)
    assert calls == [("epochs", 2, 2, "done before")]
    assert out.read_bytes() == kept
    out.unlink()
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
    assert out.read_bytes() == kept, "it is made anew"


def test_another_s_output_is_left_alone(net: nn.Module, digits: sm.Images, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("precious")
    with pytest.raises(OutputError, match="already exists"):
        sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
    assert out.read_text() == "precious"
    assert not (tmp_path / "a.run").exists(), "nothing is left behind of what was refused"
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT, force=True)
    with pytest.raises(UsageError, match=r"schedule.lr was 0.05, now 0.1"):
        sm.finetune(net, digits, sm.against(None), out, schedule=replace(SHORT, lr=0.1))
    for snapshot in (1, 2):
        (tmp_path / f"b-epoch{snapshot}.safetensors").write_text("precious")
        other, each = tmp_path / "b.safetensors", replace(SHORT, every=snapshot)
        with pytest.raises(OutputError, match=f"b-epoch{snapshot}.safetensors"):
            sm.finetune(net, digits, sm.against(None), other, schedule=each)
        (tmp_path / f"b-epoch{snapshot}.safetensors").unlink()


def test_force_starts_over(net: nn.Module, digits: sm.Images, tmp_path: Path) -> None:
    """The same bytes as a first run with these settings, whatever was there, finished or not."""
    out, fresh = tmp_path / "a.safetensors", tmp_path / "fresh" / "a.safetensors"
    fresh.parent.mkdir()
    faster = replace(SHORT, lr=0.1)
    sm.finetune(net, digits, sm.against(None), fresh, schedule=faster)
    for stop in (4, 100):
        try:
            progress = stop_at(stop, "steps")
            sm.finetune(net, digits, sm.against(None), out, schedule=SHORT, progress=progress)
        except Stop:
            assert stop == 4
        sm.finetune(net, digits, sm.against(None), out, schedule=faster, force=True)
        assert out.read_bytes() == fresh.read_bytes()
        sm.finetune(net, digits, sm.against(None), out, schedule=SHORT, force=True)


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
        return loss if self.batches < 5 else loss * torch.nan


def test_a_loss_that_explodes_stops_and_keeps_the_last_good_state(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    with pytest.raises(NumericsError, match="epoch 2, step 2: the loss is not finite") as stopped:
        sm.finetune(net, digits, Explodes(), tmp_path / "a.safetensors", schedule=SHORT)
    assert stopped.value.exit_status == 7
    assert not (tmp_path / "a.safetensors").exists()
    kept = Snapshot(tmp_path / "a.run" / "state.safetensors").load()
    assert kept is not None
    assert kept[1] == {"epoch": 1, "step": 0, "loss": 0.0, "right": 0, "seen": 0}
    assert all(bool(torch.isfinite(t).all()) for t in kept[0].values())


def test_a_state_that_is_another_s_is_refused_by_name(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    out, file = tmp_path / "a.safetensors", tmp_path / "a.run" / "state.safetensors"
    with pytest.raises(Stop):
        sm.finetune(
            net, digits, sm.against(None), out, schedule=SHORT, progress=stop_at(4, "steps")
        )
    tensors, position = Snapshot(file).load() or ({}, {})
    for wrong in ({**position, "epochs": 1}, None):
        kept = {"weight/last.weight": torch.zeros(1)} if wrong is None else tensors
        Snapshot(file).save(kept, wrong or position)
        with pytest.raises(InputError, match="state.safetensors.*not the state of this run"):
            sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)


def test_inputs_and_strangers_are_never_overwritten(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    base = tmp_path / "x-epoch1.safetensors"
    sm.finetune(net, digits, sm.against(None), base, schedule=SHORT)
    ingredient, kept = sm.load(base)[0], base.read_bytes()
    for out, schedule in ((tmp_path / "x.safetensors", replace(SHORT, every=1)), (base, SHORT)):
        with pytest.raises(UsageError, match="also an input"):
            sm.finetune(
                net, digits, sm.against(None), out, base=ingredient, schedule=schedule, force=True
            )
    assert base.read_bytes() == kept
    out, other = tmp_path / "y.safetensors", tmp_path / "z.safetensors"
    sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
    sm.finetune(net, digits, sm.against(None), other, schedule=SHORT, seed=1)
    for stranger in (b"a stranger's", other.read_bytes()):
        out.write_bytes(stranger)
        with pytest.raises(OutputError, match="already exists"):
            sm.finetune(net, digits, sm.against(None), out, schedule=SHORT)
        assert out.read_bytes() == stranger


def test_a_base_that_is_not_finite_or_does_not_fit_is_refused_before_any_work(
    net: nn.Module, digits: sm.Images, tmp_path: Path
) -> None:
    broken = dict(net.state_dict())
    broken["last.bias"] = torch.full((10,), torch.nan)
    small = {name: tensor for name, tensor in net.state_dict().items() if name != "last.bias"}
    for name, weights, kind in (("broken", broken, NumericsError), ("small", small, InputError)):
        sm.save(tmp_path / f"{name}.safetensors", weights)
        base = sm.load(tmp_path / f"{name}.safetensors")[0]
        with pytest.raises(kind, match="last.bias"):
            sm.finetune(
                net, digits, sm.against(None), tmp_path / "a.safetensors", base=base, schedule=SHORT
            )
    few = nn.Sequential(OrderedDict(rows=nn.Flatten(), last=nn.Linear(64, 4)))
    with pytest.raises(InputError, match="has 4 classes, but the data have a label"):
        sm.finetune(few, digits, sm.against(None), tmp_path / "a.safetensors", schedule=SHORT)
    assert not (tmp_path / "a.run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs 0 is below 1"),
        ({"batch_size": 0}, "batch size 0 is below 1"),
        ({"every": -1}, "every -1 is below 0"),
        ({"lr": 0.0}, "learning rate 0 is not above 0"),
        ({"lr": 1e9}, "learning rate 1e.09 is not above 0 and below 1e.09"),
        ({"lr": float("nan")}, "learning rate nan"),
        ({"warmup": -0.5}, "warmup -0.5 is not at least 0"),
        ({"momentum": float("nan")}, "momentum nan is not"),
        ({"weight_decay": 1e9}, "decay 1e.09 is not at least 0 and below"),
        ({"augment": "crop-flop"}, "unknown augmentation 'crop-flop'.*did you mean 'crop-flip'"),
    ],
)
def test_invalid_schedules_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=rf"\b{words}") as refused:
        sm.Schedule(**settings)
    assert refused.value.where == ("augment" if "augment" in settings else "finetune")


def test_the_defaults_are_the_papers_and_the_least_settings_are_allowed() -> None:
    assert asdict(sm.Schedule()) == {
        "epochs": 10,
        "lr": 0.001,
        "warmup": 0.0,
        "batch_size": 128,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "augment": "crop-flip",
        "precision": "fp32",
        "every": 0,
    }
    sm.Schedule(epochs=1, batch_size=1, momentum=0.0, lr=1e-30, weight_decay=0.9e9)
    snapshots = [list(sm.Schedule(epochs=7, every=every).snapshots) for every in (0, 1, 3, 7, 8)]
    assert snapshots == [[], [1, 2, 3, 4, 5, 6, 7], [3, 6], [7], []]

"""Fine-tunes of one base share a basin, networks of different seeds do not; how that is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.soups.basin import SEPARATE, SHARED, UNKNOWN
from soupmerge.weights.geometry import ALL, signs
from tests.shared import Outcome, near


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the shape of `trained`, from another seed."""
    out = tmp_path_factory.mktemp("stranger") / "stranger.safetensors"
    torch.manual_seed(7)
    net = sm.model("digits-cnn?width=8")
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    schedule = sm.Schedule(epochs=8, lr=0.1, augment="none")
    train = sm.data("digits", split="train")
    return sm.finetune(net, train, sm.against(sm.Linf(0.1)), out, schedule=schedule, seed=7)


def benchmark(*threats: sm.Threat, limit: int = 300) -> sm.Benchmark:
    images = sm.data("digits", split="val", limit=limit)
    return sm.Benchmark(images, [sm.APGD.training(t, steps=3) for t in threats], name="basin")


def test_fine_tunes_of_one_base_share_a_basin(trained: list[Path]) -> None:
    pots = sm.load(*trained[:2])
    found = sm.barrier(sm.model(like=pots), pots, benchmark(sm.Linf(0.1)), tolerance=0.1)
    assert found.verdict == SHARED
    assert [b.metric for b in found] == ["clean", "linf:0.1"]
    assert signs(pots).blocks[0].alike[0] > 0.8


def test_networks_of_different_seeds_do_not(trained: list[Path], stranger: Path) -> None:
    pots = sm.load(trained[0], stranger)
    found = sm.barrier(sm.model(like=pots), pots, benchmark(), tolerance=0.1)
    assert found.verdict == SEPARATE
    assert all(b.error[0] < 0.3 and b.error[-1] < 0.3 for b in found)
    assert signs(pots).blocks[0].alike[0] < 0.7


def test_the_way_to_oneself_has_no_barrier(trained: list[Path], tmp_path: Path) -> None:
    pots = sm.load(trained[0])
    sm.save(tmp_path / "again.safetensors", dict(pots[0]), model=pots.model)
    twins = sm.load(trained[0], tmp_path / "again.safetensors")
    found = sm.barrier(sm.model(like=twins), twins, benchmark(sm.Linf(0.1), limit=60)).barriers
    assert all(b.height == pytest.approx(0, abs=1e-12) for b in found)
    assert all(b.loss_height == pytest.approx(0, abs=1e-9) for b in found)


def test_walking_back_mirrors_the_way(trained: list[Path]) -> None:
    there, back = (
        sm.barrier(sm.model(like=pots), pots, benchmark(limit=100)).barriers[0]
        for pots in (sm.load(*trained[:2]), sm.load(*reversed(trained[:2])))
    )
    assert there.height == pytest.approx(back.height, abs=1e-9)
    assert there.error == pytest.approx(back.error[::-1], abs=1e-9)


def test_a_loss_convex_in_the_weights_has_no_barrier(tmp_path: Path) -> None:
    for i in (1, 2):
        torch.manual_seed(i)
        sm.save(tmp_path / f"{i}.safetensors", nn.Linear(64, 10).state_dict())
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for i in (1, 2):
        state = sm.load(tmp_path / f"{i}.safetensors")[0]
        renamed = {f"1.{n}": t for n, t in state.items()}
        sm.save(tmp_path / f"{i}.safetensors", {**renamed, "pad": torch.ones(1)}, force=True)
    net.register_buffer("pad", torch.ones(1))
    pots = sm.load(tmp_path / "1.safetensors", tmp_path / "2.safetensors")
    found = sm.barrier(net, pots, benchmark(limit=100)).barriers[0]
    assert found.loss_height <= 1e-6
    assert found.verdict == UNKNOWN  # untrained: both ends answer like chance
    assert "nothing to lose" in found.reason


def test_signs_are_those_of_plain_vectors(net: nn.Module, tmp_path: Path) -> None:
    states = [near(net, seed) for seed in (1, 2, 3)]
    for i, state in enumerate(states):
        sm.save(tmp_path / f"{i}.safetensors", state)
    sm.save(tmp_path / "origin.safetensors", near(net, 4))
    pots = sm.load(*(tmp_path / f"{i}.safetensors" for i in range(3)))
    origin = sm.load(tmp_path / "origin.safetensors")[0]
    rows = [torch.cat([pot[n].double().reshape(-1) for n in pots.mixed]) for pot in pots]
    ref = torch.cat([origin[n].double().reshape(-1) for n in pots.mixed])
    sign = next(s for s in signs(pots, origin).blocks if s.block == ALL)
    distances = [float((row - ref).norm() / ref.norm()) for row in rows]
    assert sign.distances == pytest.approx(distances, rel=1e-9)
    cosine = torch.nn.functional.cosine_similarity
    pairs = [(0, 1), (0, 2), (1, 2)]
    alike = [float(cosine(rows[i], rows[j], 0)) for i, j in pairs]
    aligned = [float(cosine(rows[i] - ref, rows[j] - ref, 0)) for i, j in pairs]
    assert sign.alike == pytest.approx((min(alike), max(alike)), rel=1e-9)
    assert sign.aligned == pytest.approx((min(aligned), max(aligned)), rel=1e-6)


def test_check_says_separate_with_exit_status_1(
    soupmerge: Callable[..., Outcome], trained: list[Path], stranger: Path
) -> None:
    how = ("--data", "digits", "--split", "val", "--points", 5, "--tolerance", 0.1, "--json")
    apart = soupmerge("check", trained[0], stranger, *how)
    assert apart.status == 1
    assert json.loads(apart.out)["basin"]["verdict"] == "separate"
    assert json.loads(apart.out)["compatible"] is True
    near_by = soupmerge("check", *trained[:2], *how)
    assert near_by.status == 0
    assert json.loads(near_by.out)["basin"]["verdict"] == "shared"
    unmeasured = soupmerge("check", trained[0], stranger)
    assert unmeasured.status == 0
    assert "not measured" in unmeasured.out


def test_recalibrated_statistics_are_those_of_update_bn(pots: sm.Ingredients) -> None:
    images = sm.data("digits", split="train", limit=96)
    soup = sm.mix(pots, sm.Recipe.uniform(pots))
    net = sm.model(like=pots)
    anew = sm.recalibrate(net, soup, sm.Calibration(images, batch_size=32, seed=3))
    from soupmerge.schedule import order

    batches = [images.batch(i)[0] for i in order(96, 3, 0).split(32)]
    reference = sm.bind(net, soup)
    torch.optim.swa_utils.update_bn(batches, reference)
    expected = reference.state_dict()
    changed = 0
    for name, tensor in anew.items():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
            changed += 1
        else:
            assert torch.equal(tensor, soup[name])
    assert changed

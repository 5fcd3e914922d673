"""Networks of RobustBench's zoo: its names and shapes, and its logits where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

import soupmerge as sm
from tests.shared import Outcome
from tests.sources import robustbench_peer

Typed = Callable[..., Outcome]
PEERS: dict[str, str | None] = json.loads(robustbench_peer.SHAPES.read_text())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are made without random numbers, which take most of the time."""
    for name in dir(nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    for name in ("uniform_", "normal_", "erfinv_", "clamp_"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *args, **kwargs: tensor)


def families() -> dict[str, list[str]]:
    """Return the names of networks → the entries that have one of this name."""
    found: dict[str, list[str]] = {}
    for name in PEERS:
        network = robustbench_peer.of_ours(name).network
        found.setdefault(network.partition("?")[0] or "none", []).append(name)
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("family", families())
def test_networks_have_robustbench_s_names_and_shapes(family: str) -> None:
    signatures: dict[str, str | None] = {"": None}
    for name in families()[family]:
        network = robustbench_peer.of_ours(name).network
        if network not in signatures:
            with torch.device("meta"):
                state = sm.model(network).state_dict()
            signatures[network] = f"{len(state)} {robustbench_peer.signature(state)}"
        assert signatures[network] == PEERS[name], name


@pytest.mark.parametrize(
    "name",
    [
        "cifar10/corruptions/Hendrycks2020AugMix_WRN",
        "cifar10/Linf/Ding2020MMA",
        "cifar10/Linf/Wong2020Fast",
        "cifar100/Linf/Rice2020Overfitting",
        "cifar10/L2/Rade2021Helper_R18_ddpm",
        "cifar10/Linf/Addepalli2022Efficient_RN18",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_logits_are_robustbench_s(name: str) -> None:
    if reason := robustbench_peer.why_not():
        pytest.skip(reason)
    assert robustbench_peer.distance(name, 32) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_logits_of_the_largest_families_are_robustbench_s() -> None:
    if reason := robustbench_peer.why_not():
        pytest.skip(reason)
    for name, (theirs, ours) in robustbench_peer.small().items():
        assert robustbench_peer.distance_of(theirs, ours) < 1e-5, name

"""Every form of APGD against pyautoattack's, from the same starts: the same verdicts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from tests.robustness.cases import CALIBRATED, right

reference = pytest.importorskip("pyautoattack.autopgd_base")

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
L1_THREAT = next(threat for threat in CALIBRATED if threat.norm == "l1")


def theirs(network: nn.Module, x: Tensor, y: Tensor, threat: sm.Threat, **how: Any) -> Tensor:
    kind = reference.APGDAttack_targeted if "n_target_classes" in how else reference.APGDAttack
    settings = {"norm": NORMS[threat.norm], "eps": threat.eps, "seed": 3, "device": "cpu"}
    return right(network, kind(network, n_iter=40, **settings, **how).perturb(x, y), y)


def ours(network: nn.Module, x: Tensor, y: Tensor, threat: sm.Threat, **how: Any) -> Tensor:
    attack = sm.APGD(threat, steps=40, **how)
    return right(network, attack(network, x, y, generator=torch.Generator().manual_seed(3)), y)


@pytest.mark.parametrize("threat", CALIBRATED, ids=str)
@pytest.mark.parametrize(
    ("their_way", "our_way"),
    [
        ({"loss": "dlr"}, {"loss": "dlr"}),
        ({"n_restarts": 3}, {"restarts": 3}),
        ({"n_target_classes": 9}, {"loss": "dlr-t"}),
        ({"n_target_classes": 2, "n_restarts": 2}, {"loss": "dlr-t", "targets": 2, "restarts": 2}),
    ],
    ids=["dlr", "restarts", "targeted", "targeted with restarts"],
)
def test_the_verdicts_are_the_reference_s(
    network: nn.Module,
    batch: tuple[Tensor, Tensor],
    threat: sm.Threat,
    their_way: dict[str, Any],
    our_way: dict[str, Any],
) -> None:
    """Many starts and targets leave one image or two of which rounding decides."""
    x, y = batch
    expected, found = (
        theirs(network, x, y, threat, **their_way),
        ours(network, x, y, threat, **our_way),
    )
    assert torch.equal(expected, found)
    assert 0 < int(found.sum()) < len(y), "calibrate the radius: this could not fail"


@pytest.mark.parametrize("targeted", [False, True])
def test_long_eps_is_the_reference_s(
    network: nn.Module, batch: tuple[Tensor, Tensor], targeted: bool
) -> None:
    x, y = batch
    their_way = {"use_largereps": True} | ({"n_target_classes": 3} if targeted else {})
    our_way = {"long_eps": True} | ({"loss": "dlr-t", "targets": 3} if targeted else {})
    expected = theirs(network, x, y, L1_THREAT, **their_way)
    found = ours(network, x, y, L1_THREAT, **our_way)
    # Three projections in a row, each rounded in its own way: rounding decides for some images.
    assert int((expected != found).sum()) <= 2
    assert 2 < int(found.sum()) < len(y) - 2

"""AutoAttack on survivors of our own counting: the reference's robust set, through either name."""

from __future__ import annotations

import logging
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from tests.robustness.cases import CALIBRATED, right

reference = pytest.importorskip("pyautoattack")


@pytest.fixture(autouse=True)
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAB and Square take hundreds of times as long as all else; they are the reference's own."""
    logging.getLogger("auto-attack").setLevel(logging.CRITICAL)
    whole = reference.AutoAttack.__init__

    def short(self: Any, *args: Any, **kwargs: Any) -> None:
        whole(self, *args, **kwargs)
        self.fab.n_iter, self.square.n_queries = 5, 100

    monkeypatch.setattr(reference.AutoAttack, "__init__", short)


class Held:
    """Images and labels at hand."""

    ref, classes = "held", 10

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.labels, self.ids = x, y, [str(i) for i in range(len(x))]

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.labels[indices]

    def fingerprint(self) -> dict[str, Any]:
        return {"ref": self.ref, "split": "test", "n": len(self), "sha256": "0"}


@pytest.mark.parametrize(
    ("version", "threat"),
    [*(("standard", threat) for threat in CALIBRATED), ("plus", CALIBRATED[0])],
    ids=str,
)
def test_the_robust_set_is_the_reference_s(
    network: nn.Module, batch: tuple[Tensor, Tensor], threat: sm.Threat, version: str
) -> None:
    x, y = batch[0][:15], batch[1][:15]
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[threat.norm]
    adversary = reference.AutoAttack(network, norm=norm, eps=threat.eps, version=version, seed=0)
    theirs, _ = adversary.run_standard_evaluation(x, y, batch_size=9)
    judge = sm.Benchmark(Held(x, y), [sm.AutoAttack(threat, version=version)], batch_size=9)
    ours = judge(network).right(str(threat))
    differing = int((right(network, theirs, y) != ours).sum())
    # L1 projects in rounds, each rounded in its own way (tests/robustness/test_reference.py).
    assert differing <= (1 if threat.norm == "l1" else 0)
    assert 0 < int(ours.sum()) < len(y)


def test_the_original_is_asked_in_its_own_words(
    network: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not on PyPI; this stands for it: other words for the same arguments, one value back."""
    asked: list[Any] = []

    class Original:
        def __init__(self, model: Any, **how: Any) -> None:
            asked.append(how)
            self.apgd_targeted = self.fab = types.SimpleNamespace(n_target_classes=9)

        def run_standard_evaluation(self, x: Tensor, y: Tensor, bs: int) -> Tensor:
            asked.append(bs)
            return (x + 0.02).clamp(0, 1)

    Original.__module__ = "autoattack.autoattack"
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.setitem(sys.modules, "autoattack", types.SimpleNamespace(AutoAttack=Original))
    x, y = batch
    attack = sm.AutoAttack(sm.Linf(0.02), version="custom", attacks=("square",))
    found = attack(network, x, y, generator=torch.Generator())
    assert found.shape == x.shape
    assert asked[0]["attacks_to_run"] == ["square"]
    assert asked[0]["norm"] == "Linf"
    assert asked[1] == len(x)
    monkeypatch.setitem(sys.modules, "autoattack", None)
    with pytest.raises(OSError, match="neither pyautoattack nor autoattack is installed; pip"):
        attack(network, x, y, generator=torch.Generator())

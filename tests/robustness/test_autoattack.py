"""AutoAttack on survivors of our own counting: the reference's stages, and its robust set."""

from __future__ import annotations

import logging
import random
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import OutputError, UsageError
from soupmerge.robustness import autoattack
from tests.robustness.cases import REFERENCE_NORMS, AtHand, Recorder, right, small_network

reference = pytest.importorskip("pyautoattack")

FALLING = {"linf": sm.Linf(0.02), "l2": sm.L2(0.1), "l1": sm.L1(0.4)}


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    logger = logging.getLogger("auto-attack")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten both sides: APGD to ten steps, FAB to one and Square to ten questions."""
    kept = reference.AutoAttack.__init__
    for kind in ("APGDAttack", "APGDAttack_targeted"):
        made = getattr(reference.autoattack, kind)
        monkeypatch.setattr(
            reference.autoattack, kind, lambda *a, _made=made, **k: _made(*a, **{**k, "n_iter": 10})
        )

    def shortened(self: Any, *args: Any, **kwargs: Any) -> None:
        kept(self, *args, **kwargs)
        self.fab.n_iter, self.square.n_queries = 1, 10

    monkeypatch.setattr(reference.AutoAttack, "__init__", shortened)
    monkeypatch.setattr(autoattack, "STEPS", 10)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network(8)


@pytest.fixture(scope="module")
def batch(network: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, network(x).argmax(1)


@pytest.mark.parametrize("norm", FALLING)
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_every_stage_has_the_reference_s_settings(norm: str, version: str) -> None:
    """Read from its objects: steps, restarts, targets, and the radii of L1."""
    settings = {"norm": REFERENCE_NORMS[norm], "eps": 0.25, "version": version, "seed": 7}
    theirs = reference.AutoAttack(small_network(), **settings)
    ours = sm.AutoAttack(sm.Threat(norm, 0.25), version=version, seed=7)
    assert [stage.describe()["attack"] for stage in ours.stages] == theirs.attacks_to_run
    for stage, name in zip(ours.stages, theirs.attacks_to_run, strict=True):
        attack = theirs.apgd_targeted if name == "apgd-t" else theirs.apgd
        found: dict[str, Any] = {"attack": name, "steps": attack.n_iter, "seed": 7}
        if name.startswith("apgd"):
            found |= {"restarts": attack.n_restarts} if attack.n_restarts > 1 else {}
            found |= {"long eps": True} if attack.use_largereps else {}
            found |= {"targets": attack.n_target_classes} if name == "apgd-t" else {}
        assert stage.describe() == found
        assert stage.threat == sm.Threat(norm, 0.25)
    assert ours.describe() == {
        "attack": f"autoattack-{version}",
        "steps": theirs.apgd.n_iter,
        "attacks": theirs.attacks_to_run,
        "seed": 7,
    }


def test_apgd_by_itself_has_the_settings_of_the_reference_s_custom_version() -> None:
    names = ("apgd-dlr", "apgd-ce", "apgd-t")
    theirs = reference.AutoAttack(small_network(), version="custom", attacks=list(names))
    ours = sm.AutoAttack(sm.L1(3), version="custom", attacks=names)
    found = {"steps": theirs.apgd.n_iter, "seed": 0}
    assert [stage.describe() for stage in ours.stages] == [
        {"attack": "apgd-dlr", "restarts": theirs.apgd.n_restarts, **found},
        {"attack": "apgd-ce", "restarts": theirs.apgd.n_restarts, **found},
        {"attack": "apgd-t", "targets": theirs.apgd_targeted.n_target_classes, **found},
    ]
    assert ours.describe()["attacks"] == list(names)


@pytest.mark.parametrize(
    ("version", "attacks", "foreign"),
    [
        ("standard", (), ["fab-t", "square"]),
        ("plus", (), ["fab", "square", "fab-t"]),
        ("rand", (), ["apgd-ce", "apgd-dlr"]),
        ("custom", ("square", "fab"), ["square", "fab"]),
    ],
)
def test_the_others_are_asked_of_the_reference_with_the_same_version(
    version: str,
    attacks: tuple[str, ...],
    foreign: list[str],
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what they answer is brought back into the threat, since FAB may end a hair outside."""
    x, y = batch
    asked: list[Any] = []
    kept = reference.AutoAttack.__init__

    def watched(self: Any, model: Any, **settings: Any) -> None:
        kept(self, model, **settings)
        asked.append(settings)

    def answers(self: Any, x: Tensor, y: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        asked[-1] |= settings | {"run": self.attacks_to_run}
        return x + 0.3, y

    monkeypatch.setattr(reference.AutoAttack, "__init__", watched)
    monkeypatch.setattr(reference.AutoAttack, "run_standard_evaluation", answers)
    ours = sm.AutoAttack(sm.L2(0.5), version=version, attacks=attacks, seed=3)
    for stage in ours.stages:
        if stage.describe()["attack"] in foreign:
            found = stage(small_network(8), x, y, generator=torch.Generator())
            torch.testing.assert_close(found, sm.L2(0.5).project(x + 0.3, x))
    assert [each["run"] for each in asked] == [[name] for name in foreign]
    for each, name in zip(asked, foreign, strict=True):
        result = {key: each[key] for key in ("norm", "eps", "seed", "version", "batch_size")}
        assert result == {"norm": "L2", "eps": 0.5, "seed": 3, "version": version, "batch_size": 12}
        assert each["attacks"] == ([name] if version == "custom" else None)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("version", "norm"),
    [("standard", "linf"), ("standard", "l2"), ("standard", "l1"), ("plus", "linf")],
)
def test_the_robust_set_is_the_reference_s(
    network: nn.Module, batch: tuple[Tensor, Tensor], norm: str, version: str
) -> None:
    """In batches smaller than the data, from which the fallen are gone before the next stage."""
    x, y = batch
    threat = FALLING[norm]
    settings = {"norm": REFERENCE_NORMS[norm], "eps": threat.eps, "version": version, "seed": 0}
    trace = sys.gettrace()
    theirs, _ = reference.AutoAttack(network, **settings).run_standard_evaluation(
        x, y, batch_size=5
    )
    sys.settrace(trace)  # it takes debuggers, and what measures coverage, away
    attack = sm.AutoAttack(threat, version=version)
    ours = sm.Benchmark(AtHand(x, y), [attack], batch_size=5)(network).right(str(threat))
    differing = int((right(network, theirs, y) != ours).sum())
    # Later restarts of L1 begin elsewhere: the reference draws noise there that it does not use.
    assert differing <= (1 if norm == "l1" else 0)
    assert 0 < int(ours.sum()) < len(y)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("version", ["standard", "rand"])
def test_autoattack_leaves_the_process_alone_and_depends_on_its_seed(
    network: nn.Module, batch: tuple[Tensor, Tensor], version: str
) -> None:
    x, y = batch[0][:5], batch[1][:5]
    threat = FALLING["linf"]
    trace = lambda *_: None  # noqa: E731

    def states() -> list[Any]:
        numpys = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
        return [torch.get_rng_state().tolist(), numpys, random.getstate(), sys.gettrace()]

    before, kept = sys.gettrace(), states()
    attack = sm.AutoAttack(threat, version=version)
    sys.settrace(trace)
    try:
        once = attack(network, x, y, generator=torch.Generator().manual_seed(0))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert states() == kept
    torch.rand(1), np.random.rand(), random.random()
    again = attack(network, x, y, generator=torch.Generator().manual_seed(1))
    assert torch.equal(once, again)
    if version == "standard":
        other = replace(attack, seed=1)(network, x, y, generator=torch.Generator())
        assert not torch.equal(once, other)
    assert (np.abs((once - x).numpy()) <= threat.eps + 1e-6).all()
    holds = right(network, once, y)
    assert torch.equal(once[holds], x[holds])


@pytest.mark.usefixtures("short")
def test_no_more_classes_are_targeted_than_there_are() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    x = torch.rand(4, 3, 2, 2)
    attack = sm.AutoAttack(sm.Linf(0.5), version="custom", attacks=("apgd-t", "fab-t"))
    found = attack(net, x, net(x).argmax(1), generator=torch.Generator())
    assert found.shape == x.shape


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_nothing_is_asked_where_nothing_can_change(version: str) -> None:
    """At a radius of zero, and without images."""
    asked = Recorder(small_network())
    x, y = torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    none, some = sm.AutoAttack(sm.L2(0), version), sm.AutoAttack(sm.L2(1), version)
    for attack, images in ((none, x), (none.stages[-1], x), (some, x[:0])):
        found = attack(asked, images, y[: len(images)], generator=torch.Generator())
        assert torch.equal(found, images)
        assert found is not images
    assert not asked.points


def test_the_original_is_asked_in_its_own_words(
    network: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not on PyPI; this stands for it: other words for the same arguments, one value back."""
    asked: list[Any] = []

    class Original:
        def __init__(self, model: Any, **settings: Any) -> None:
            asked.append(settings)
            self.apgd_targeted = self.fab = types.SimpleNamespace(n_target_classes=9)

        def run_standard_evaluation(self, x: Tensor, y: Tensor, bs: int) -> Tensor:
            asked.append(bs)
            return (x + 0.02).clamp(0, 1)

    Original.__module__ = "autoattack.autoattack"
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.setitem(sys.modules, "autoattack", types.SimpleNamespace(AutoAttack=Original))
    x, y = batch
    attack = sm.AutoAttack(sm.Linf(0.02), version="custom", attacks=("square",), seed=5)
    found = attack.stages[0](network, x, y, generator=torch.Generator())
    torch.testing.assert_close(found, (x + 0.02).clamp(0, 1))
    result = {"norm": "Linf", "eps": 0.02, "seed": 5, "version": "custom", "verbose": False}
    assert asked == [{**result, "attacks_to_run": ["square"], "device": x.device}, len(x)]
    sm.AutoAttack(sm.Linf(0.02)).stages[-1](network, x, y, generator=torch.Generator())
    assert asked[2]["attacks_to_run"] == []
    monkeypatch.setitem(sys.modules, "autoattack", None)
    with pytest.raises(OutputError, match="neither pyautoattack nor autoattack is installed; pip"):
        attack(network, x, y, generator=torch.Generator())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "standart"}, "unknown version 'standart'.*did you mean 'standard'"),
        ({"version": "custom"}, "attacks are given with the version custom"),
        ({"attacks": ("square",)}, "attacks are given with the version custom"),
        ({"version": "custom", "attacks": ("square", "fabt")}, "unknown attack 'fabt'"),
    ],
)
def test_invalid_versions_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        sm.AutoAttack(sm.Linf(0.1), **settings)
    assert refused.value.where == "autoattack"

"""Who decides what is robust: the benchmark, whatever the attack says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.attacks import FGSM
from tests.robustness.cases import AtHand, Recorder, Stub, pixels, small_network, threshold

LINF, L2 = sm.Linf(1), sm.L2(1)


def breaks(*values: float) -> Callable[[Tensor], Tensor]:
    """Return an attack's answer that turns images of these *values* white."""

    def answer(x: Tensor) -> Tensor:
        hit = torch.stack([(x - value).abs() < 1e-6 for value in values]).any(0)
        return torch.where(hit, torch.ones_like(x), x)

    return answer


def test_an_image_is_robust_if_it_is_right_clean_and_after_each_attack() -> None:
    data = pixels([0.1, 0.2, 0.3, 0.4, 0.8, 0.9])  # the last two are wrong as they are
    attacks = [Stub(LINF, breaks(0.1, 0.2)), Stub(L2, breaks(0.2, 0.3))]
    report = sm.Benchmark(data, attacks)(threshold)
    flags = {metric: report.right(metric).tolist() for metric in report.metrics}
    assert flags == {
        "clean": [True, True, True, True, False, False],
        "linf:1": [False, False, True, True, False, False],
        "l2:1": [True, False, False, True, False, False],
        "union": [False, False, False, True, False, False],
    }
    assert report == sm.evaluate(threshold, sm.Benchmark(data, attacks))


@pytest.mark.parametrize("only_union", [False, True])
def test_what_an_attack_puts_right_is_not_robust(only_union: bool) -> None:
    data = pixels([0.1, 0.9])
    attacks = [Stub(threat, torch.zeros_like) for threat in (LINF, L2)]
    report = sm.Benchmark(data, attacks, only_union=only_union)(threshold)
    assert report.right("union").tolist() == [True, False]


@pytest.mark.parametrize(
    ("answer", "count"),
    [(lambda x: 1 - x, 2), (lambda x: x + 0.5, 3), (lambda x: x * torch.nan, 3), (lambda x: -x, 3)],
)
def test_an_attack_that_leaves_its_threat_model_is_not_believed(
    answer: Callable[[Tensor], Tensor], count: int
) -> None:
    data, threat = pixels([0.1, 0.3, 0.48]), sm.Linf(0.1)
    with pytest.raises(InputError, match=f"left its threat model linf:0.1 on {count} of 3 images"):
        sm.Benchmark(data, [Stub(threat, answer)])(threshold)


def test_an_attack_that_gives_other_shapes_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"returned images of shape \(2, 1, 1\), not \(2, 1, 1, 1\)"
    ):
        sm.Benchmark(pixels([0.1, 0.2]), [Stub(LINF, lambda x: x[..., 0])])(threshold)


def test_what_ends_a_hair_outside_is_brought_back_before_it_is_judged() -> None:
    """The image is wrong where the attack left it, and right on the face of the ball."""
    data, threat = pixels([0.25]), sm.Linf(0.25)
    edge = Stub(threat, lambda x: x + 0.25 + 5e-7)
    assert threshold(edge.answer(data.x)).argmax(1).tolist() == [1]
    assert sm.Benchmark(data, [edge])(threshold).right("linf:0.25").tolist() == [True]


def test_logits_that_break_under_attack_are_not_robust() -> None:
    def fragile(x: Tensor) -> Tensor:
        return torch.where(x.flatten(1) > 0.3, threshold(x) / 0, threshold(x))

    data, attack = pixels([0.1, 0.2]), Stub(sm.Linf(0.5), lambda x: x + (x > 0.15) * 0.25)
    report = sm.Benchmark(data, [attack])(fragile)
    assert report.right("linf:0.5").tolist() == [True, False]


@pytest.mark.parametrize("batch_size", [256, 4])
def test_every_question_is_counted(batch_size: int) -> None:
    """Of ten images two are wrong, and two fall to the first step: FGSM takes one gradient each."""
    data = pixels([0.1] * 6 + [0.45] * 2 + [0.9] * 2)
    asked = Recorder(threshold)
    report = sm.Benchmark(data, [FGSM(sm.Linf(0.1))], batch_size=batch_size)(asked)
    assert report.correct("linf:0.1") == 6
    # Clean; at the start; after the step, where no gradient is needed; and to confirm the verdict.
    assert report.cost["gradient_evaluations"] == 8
    assert report.cost["forward_evaluations"] == 10 + 8 + 8
    assert report.cost["seconds"] >= 0
    sizes = [len(points) for points in asked.points]
    assert max(sizes) == min(batch_size, 10)
    assert sum(sizes) == 8 + 26 + 1, "and one to see that it is a classifier"


def test_a_climb_of_n_steps_costs_n_gradients_and_each_try_as_much() -> None:
    data = pixels([0.1] * 5)
    for attack, climbs in (
        (sm.APGD(sm.Linf(0.1), steps=7), 1),
        (sm.APGD(sm.Linf(0.1), steps=7, restarts=3), 3),
        (sm.PGD(sm.Linf(0.1), steps=7, restarts=2), 2),
    ):
        cost = sm.Benchmark(data, [attack])(threshold).cost
        assert cost["gradient_evaluations"] == 5 * 7 * climbs
        assert cost["forward_evaluations"] == 5 * (1 + climbs + 1)


@dataclass(frozen=True, eq=False)
class Breaking(Stub):
    """A stub that keeps which images it met, and says how many steps it takes."""

    more: dict[str, Any] = field(default_factory=dict)
    met: list[float] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), **self.more}

    def __call__(self, classifier: Any, x: Tensor, y: Tensor, *, generator: Any) -> Tensor:
        self.met.extend(x.flatten().tolist())
        return self.answer(x)


PILOT = [0.1, 0.15, 0.2, 0.25]
REST = [0.3, 0.35, 0.4]


@pytest.mark.parametrize(
    ("first", "second", "reversed"),
    [
        # Steps, and how many of the pilot's four it breaks. What falls costs ten steps, or all if
        # they are fewer; what holds costs all.
        ((100, {}, 3), (100, {}, 2), False),
        ((100, {}, 2), (100, {}, 3), True),
        ((100, {}, 3), (20, {}, 2), True),  # 0.75 / 32.5 < 0.5 / 15
        ((100, {}, 3), (80, {}, 2), False),  # 0.75 / 32.5 > 0.5 / 45
        ((5, {}, 2), (10, {}, 3), False),  # 0.5 / 5 > 0.75 / 10
        ((20, {}, 2), (5, {"restarts": 8}, 2), False),
        ((20, {}, 2), (5, {"restarts": 2}, 2), True),
        ((20, {}, 2), (5, {"targets": 8}, 2), False),
        ((20, {}, 2), (2, {"targets": 3, "restarts": 2}, 2), True),
        ((20, {}, 2), (5, {"targets": 3, "restarts": 2}, 2), False),
        ((100, {}, 3), (20, {}, 1), False),  # 0.75 / 32.5 > 0.25 / 17.5
        ((100, {}, 0), (1, {}, 0), False),
        ((29, {}, 3), (10, {}, 2), False),  # 0.75 / 14.75 > 0.5 / 10
        ((0, {}, 4), (1, {}, 4), False),
    ],
)
def test_only_the_union_asks_first_what_breaks_most_for_its_cost(
    first: Any, second: Any, reversed: bool
) -> None:
    attacks = [
        Breaking(t, breaks(*PILOT[:broken], 0.3), steps=steps, more=more)
        for t, (steps, more, broken) in ((LINF, first), (L2, second))
    ]
    data = pixels([*PILOT, *REST])
    judge = sm.Benchmark(data, attacks, batch_size=4, only_union=True)
    report = judge(threshold)
    ordered = attacks[::-1] if reversed else attacks
    assert report.notes["order"] == [str(attack.threat) for attack in ordered]
    assert ordered[0].met == pytest.approx([*PILOT, *REST])
    assert ordered[1].met == pytest.approx([*PILOT, *REST[1:]]), "what fell is left alone"
    broken = max(first[2], second[2])
    assert report.right("union").tolist() == [i >= broken and i != 4 for i in range(7)]
    assert report.metrics == judge.metrics == ("clean", "union")


def test_only_the_union_is_the_union_of_each() -> None:
    network, x = (
        small_network(),
        torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(1)),
    )
    data = AtHand(x.double(), network(x).argmax(1))
    attacks = [sm.APGD(t, steps=8) for t in (sm.Linf(0.015), sm.L2(0.08), sm.L1(0.3))]
    each = sm.Benchmark(data, attacks, batch_size=6)
    union = replace(each, only_union=True)
    network.double()
    apart, together = each(network), union(network)
    assert torch.equal(apart.right("union"), together.right("union"))
    assert 0 < together.correct("union") < 20
    assert together.cost["gradient_evaluations"] < apart.cost["gradient_evaluations"]
    assert replace(union, attacks=attacks[:1])(network) == replace(each, attacks=attacks[:1])(
        network
    )


@pytest.mark.parametrize(
    ("attacks", "only_union", "metrics"),
    [
        ([], False, ("clean",)),
        ([Stub(LINF)], False, ("clean", "linf:1", "union")),
        ([Stub(LINF)], True, ("clean", "linf:1", "union")),
        ([Stub(LINF), Stub(L2)], False, ("clean", "linf:1", "l2:1", "union")),
        ([Stub(LINF), Stub(L2)], True, ("clean", "union")),
    ],
)
def test_a_benchmark_knows_its_metrics_before_it_judges(
    attacks: Sequence[Any], only_union: bool, metrics: tuple[str, ...]
) -> None:
    judge = sm.Benchmark(pixels([0.1]), attacks, only_union=only_union)
    assert judge.metrics == judge(threshold).metrics == metrics


def test_a_benchmark_tells_all_that_changes_a_verdict() -> None:
    plain = sm.Benchmark(pixels([0.1]), [sm.APGD(LINF, steps=3)])
    description = plain.describe()
    assert description == {
        "data": pixels([0.1]).fingerprint(),
        "name": "test",
        "attacks": {"linf:1": {"attack": "apgd-ce", "steps": 3}},
        "seed": 0,
    }
    for change, more in (
        ({"name": "val"}, {"name": "val"}),
        ({"seed": 1}, {"seed": 1}),
        ({"precision": "bf16"}, {"precision": "bf16"}),
        ({"only_union": True}, {"only union": True}),
        ({"batch_size": 3}, {}),
    ):
        assert replace(plain, **change).describe() == description | more  # type: ignore[arg-type]
    transferred = {"linf:1": {"attack": "apgd-ce", "steps": 3, "transfer": True}}
    assert replace(plain, transfer=True).describe()["attacks"] == transferred
    assert replace(plain, transfer=True)(threshold).attacks == transferred


def test_a_benchmark_is_a_test_in_float32_of_each_threat_unless_it_is_told_otherwise() -> None:
    plain, data = sm.Benchmark(pixels([0.1])), pixels([0.1])
    found = {f.name: getattr(plain, f.name) for f in fields(plain) if f.name != "data"}
    assert found == {
        "attacks": (),
        "name": "test",
        "seed": 0,
        "batch_size": 256,
        "precision": "fp32",
        "only_union": False,
        "transfer": False,
    }
    assert plain.data.fingerprint() == data.fingerprint()


def test_progress_counts_images_under_the_name_of_what_is_done() -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int, note: str = "") -> None:
        seen.append((what, done, total))

    stages = (Stub(LINF, breaks(0.2), "one"), Stub(LINF, name="two"))
    data = pixels([0.1, 0.2, 0.3])
    judge = sm.Benchmark(data, [sm.Cascade(stages), Stub(L2)], batch_size=2)
    sm.evaluate(threshold, judge, progress=progress)
    assert seen == [
        ("clean", 2, 3),
        ("clean", 3, 3),
        ("linf:1 one", 2, 3),
        ("linf:1 one", 3, 3),
        ("linf:1 two", 2, 2),
        ("l2:1", 2, 3),
        ("l2:1", 3, 3),
    ]


def test_what_is_no_classifier_is_refused() -> None:
    judge = sm.Benchmark(pixels([0.1, 0.9], labels=[0, 1]))
    inside = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(1, 2)).eval()
    inside[1].train()
    for network, words in (
        (
            nn.Sequential(nn.Flatten(), nn.Linear(1, 2)),
            "the model is in training mode; call its eval",
        ),
        (inside, "1 is in training mode"),
        (lambda x: (threshold(x), 1), "not logits"),
        (lambda x: threshold(x)[:, :1], "has 1 classes, but the data have a label 1"),
    ):
        with pytest.raises(InputError, match=words) as refused:
            judge(network)
        assert refused.value.where == "model"


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"attacks": [Stub(LINF), Stub(L2), sm.PGD(LINF)]}, UsageError, "linf:1 is given more"),
        ({"precision": "bf61"}, UsageError, "unknown precision 'bf61'.*did you mean 'bf16'"),
        (
            {"precision": "bf16", "attacks": [sm.APGD(L2), sm.AutoAttack(LINF)]},
            UsageError,
            "AutoAttack computes in float32; use apgd-ce",
        ),
        ({"data": pixels([])}, InputError, "at hand: holds no images"),
    ],
)
def test_invalid_benchmarks_are_refused(
    settings: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        sm.Benchmark(**{"data": pixels([0.1]), **settings})


def test_the_network_and_all_randomness_are_left_as_they_were() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    bound = sm.bind(net, net.state_dict())
    before = {n: t.clone() for n, t in bound.state_dict().items()}
    data = AtHand(torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    random = torch.get_rng_state()
    for precision in ("fp32", "bf16"):
        sm.Benchmark(data, [sm.APGD(sm.Linf(0.1), steps=3)], precision=precision)(bound)
    assert all(torch.equal(t, before[n]) for n, t in bound.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(p.requires_grad or p.grad is not None for p in bound.parameters())

"""Sets and projections: idempotent, inside, nearest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import UsageError

THREATS = [sm.Linf(8 / 255), sm.Linf(0.3), sm.L2(0.5), sm.L2(3.0), sm.L1(2.0), sm.L1(12.0)]


def images(seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(5, 3, 6, 6, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    return x, x + scale * torch.randn(x.shape, generator=generator)


@pytest.mark.parametrize("threat", THREATS, ids=str)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 0.001, 0.1, 1.0, 30.0]))
def test_a_projection_lands_inside_and_stays_there(
    threat: sm.Threat, seed: int, scale: float
) -> None:
    x, far = images(seed, scale)
    once = threat.project(far, x)
    assert bool(threat.contains(once, x).all())
    torch.testing.assert_close(threat.project(once, x), once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threat", THREATS, ids=str)
@given(seed=st.integers(0, 2**16))
def test_a_projection_leaves_what_is_inside(threat: sm.Threat, seed: int) -> None:
    x, far = images(seed)
    inside = x + 0.3 * (threat.project(far, x) - x)
    torch.testing.assert_close(threat.project(inside, x), inside, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threat", [t for t in THREATS if t.norm != "l2"], ids=str)
@given(seed=st.integers(0, 2**16))
def test_a_projection_is_the_nearest_point(threat: sm.Threat, seed: int) -> None:
    """p is nearest to z in a convex set if and only if (z − p)·(q − p) ≤ 0 for all q in it."""
    x, far = images(seed, 0.5)
    nearest = threat.project(far, x)
    for other in range(8):
        inside = threat.project(images(seed + 100 + other, 2.0)[1], x)
        dot = ((far - nearest) * (inside - nearest)).flatten(1).sum(1)
        assert bool((dot <= 1e-3).all())


@given(seed=st.integers(0, 2**16), eps=st.floats(0.01, 40))
def test_the_l1_projection_agrees_with_the_reference(seed: int, eps: float) -> None:
    reference = pytest.importorskip("pyautoattack.autopgd_base")
    x, far = images(seed, 0.7)
    expected = far + reference.L1_projection(x, far - x, eps)
    torch.testing.assert_close(sm.L1(eps).project(far, x), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_start_is_inside_and_depends_on_the_generator_alone(threat: sm.Threat) -> None:
    x, _ = images(0)
    before = torch.get_rng_state()
    start = threat.sample(x, torch.Generator().manual_seed(1))
    assert bool(threat.contains(start, x).all())
    assert torch.equal(start, threat.sample(x, torch.Generator().manual_seed(1)))
    assert not torch.equal(start, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_for_each_example_makes_its_start_its_own() -> None:
    x, _ = images(0)
    seeds = [torch.Generator().manual_seed(i) for i in range(5)]
    whole = sm.Linf(0.1).sample(x, seeds)
    alone = sm.Linf(0.1).sample(x[3:4], [torch.Generator().manual_seed(3)])
    assert torch.equal(whole[3:4], alone)


@pytest.mark.parametrize(
    ("text", "norm", "eps"),
    [
        ("linf:8/255", "linf", 8 / 255),
        ("LINF: 0.0314", "linf", 0.0314),
        ("l2:1/2", "l2", 0.5),
        ("l1:12", "l1", 12.0),
        ("linf:0", "linf", 0.0),
    ],
)
def test_threats_are_read_as_people_write_them(text: str, norm: str, eps: float) -> None:
    assert sm.Threat.parse(text) == sm.Threat(norm, eps)


@given(st.sampled_from(["linf", "l2", "l1"]), st.floats(0, 1))
def test_a_threat_survives_its_text(norm: str, eps: float) -> None:
    assert sm.Threat.parse(str(sm.Threat(norm, eps))) == sm.Threat(norm, eps)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linf:8", r"did you mean linf:8/255\?"),
        ("linf:8/0", "'8/0' is not a number"),
        ("l3:1", "no norm 'l3'"),
        ("linf", "is not a threat"),
        ("linf:-1", "is not in 0"),
        ("l2:nan", "is not a number"),
        ("l2:inf", "is not a number"),
        ("l2:1e999", "is not a number"),
    ],
)
def test_threats_that_cannot_be_meant(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sm.Threat.parse(text)

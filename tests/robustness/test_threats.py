"""Threats: what is inside, what is nearest, where attacks start. The oracles compute in float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

import soupmerge as sm
from soupmerge.errors import UsageError

THREATS = [sm.Linf(8 / 255), sm.Linf(0.3), sm.L2(0.5), sm.L2(3.0), sm.L1(2.0), sm.L1(12.0)]
Rows = npt.NDArray[np.float64]


def images(seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return images, many pixels of which are black or white, and others around them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(5, 3, 6, 6, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    return x, x + scale * torch.randn(x.shape, generator=generator)


def rows(images: Tensor) -> Rows:
    return images.flatten(1).double().numpy()


def length(norm: str, delta: Rows) -> Rows:
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(delta, order, axis=1)  # type: ignore[no-any-return]


def nearest(threat: sm.Threat, z: Rows, x: Rows) -> Rows:
    """Return what `Threat.project` promises, of one image."""
    delta = z - x
    if threat.norm == "linf":
        return np.clip(z, np.maximum(x - threat.eps, 0), np.minimum(x + threat.eps, 1))
    if threat.norm == "l2":
        size = max(float(np.linalg.norm(delta)), 1e-300)
        return np.clip(x + delta * min(1.0, threat.eps / size), 0, 1)

    # The Lagrangian of "nearest within box and ball" splits into pixels, each of which shrinks by
    # the multiplier λ before the box cuts it off.
    def shrunk(multiplier: float) -> Rows:
        less = np.sign(delta) * np.maximum(np.abs(delta) - multiplier, 0)
        return np.clip(x + less, 0, 1) - x

    def excess(multiplier: float) -> float:
        return float(np.abs(shrunk(multiplier)).sum()) - threat.eps

    if excess(0) <= 0:
        return x + shrunk(0)
    return x + shrunk(brentq(excess, 0, np.abs(delta).max(), xtol=1e-14))


@pytest.mark.parametrize("threat", THREATS, ids=str)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0, 30.0]))
def test_a_projection_is_the_nearest_point(threat: sm.Threat, seed: int, scale: float) -> None:
    x, far = images(seed, scale)
    expected = [nearest(threat, *pair) for pair in zip(rows(far), rows(x), strict=True)]
    np.testing.assert_allclose(rows(threat.project(far, x)), expected, rtol=0, atol=5e-5)
    wide = rows(threat.project(far.double(), x.double()))
    np.testing.assert_allclose(wide, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("threat", THREATS, ids=str)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.001, 0.1, 1.0, 30.0]))
def test_a_projection_is_inside_and_is_its_own_projection(
    threat: sm.Threat, seed: int, scale: float
) -> None:
    x, far = images(seed, scale)
    once = threat.project(far, x)
    assert once.min() >= 0
    assert once.max() <= 1
    assert (length(threat.norm, rows(once) - rows(x)) <= threat.eps * (1 + 1e-5) + 1e-6).all()
    assert bool(threat.contains(once, x).all())
    torch.testing.assert_close(threat.project(once, x), once, rtol=0, atol=1e-5)


def test_a_pixel_that_does_not_move_keeps_its_very_number() -> None:
    """APGD for L1 counts the pixels that moved."""
    x, far = images(0)
    near = sm.L1(2.0).project(far, x)
    assert 100 < int((near == x).sum()) < x.numel()


@pytest.mark.parametrize(
    ("norm", "eps"),
    [("linf", 8 / 255), ("linf", 0.3), ("l2", 0.5), ("l2", 2.0), ("l1", 0.5), ("l1", 2.0)],
)
def test_what_is_1e_4_further_than_eps_is_outside(norm: str, eps: float) -> None:
    threat, x = sm.Threat(norm, eps), torch.full((3, 3, 8, 8), 0.5)
    # One pixel, or as many as stay in the box.
    count = {"linf": 1, "l2": math.ceil(eps**2 / 0.16), "l1": math.ceil(eps / 0.4)}[norm]
    share = {"linf": 1.0, "l2": count**-0.5, "l1": 1 / count}[norm]
    moved = torch.zeros(192)
    moved[:count] = share
    away = moved.view(1, 3, 8, 8) * torch.tensor([eps - 1e-4, eps, eps + 1e-4]).view(3, 1, 1, 1)
    assert threat.contains(x + away, x).tolist() == [True, True, False]
    assert threat.contains(x - away, x).tolist() == [True, True, False]
    found = threat.distance(x + away, x)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), length(norm, rows(x + away) - rows(x)), rtol=1e-12)
    assert found.tolist() == pytest.approx([eps - 1e-4, eps, eps + 1e-4], abs=1e-6)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_what_leaves_the_box_or_is_no_number_is_outside(threat: sm.Threat) -> None:
    x = torch.zeros(5, 1, 2, 2)
    x[1] = 1
    there = x.clone()
    there[0, 0, 0, 0] = -1e-6
    there[1, 0, 0, 0] = 1 + 1e-6
    there[2, 0, 1, 1] = torch.nan
    there[3, 0, 0, 1] = torch.inf
    assert threat.contains(there, x).tolist() == [False, False, False, False, True]


@pytest.mark.parametrize("threat", [t for t in THREATS if t != sm.L2(3.0)], ids=str)
def test_where_the_box_allows_a_start_is_as_far_as_eps(threat: sm.Threat) -> None:
    x = torch.full((6, 3, 6, 6), 0.5, dtype=torch.float64)
    start = threat.sample(x, torch.Generator().manual_seed(1))
    reached = length(threat.norm, rows(start) - rows(x))
    np.testing.assert_allclose(reached, threat.eps, rtol=1e-9)
    assert len(set(start[0].flatten().tolist())) > 5, "it is noise, not one step"


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_start_is_inside_and_depends_on_the_generator_alone(threat: sm.Threat) -> None:
    x, _ = images(0)
    before = torch.get_rng_state()
    start = threat.sample(x, torch.Generator().manual_seed(1))
    assert (length(threat.norm, rows(start) - rows(x)) <= threat.eps * (1 + 1e-5) + 1e-6).all()
    assert start.min() >= 0
    assert start.max() <= 1
    assert torch.equal(start, threat.sample(x, torch.Generator().manual_seed(1)))
    assert not torch.equal(start, threat.sample(x, torch.Generator().manual_seed(2)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("threat", [sm.Linf(0.1), sm.L2(0.5), sm.L1(2)], ids=str)
def test_a_generator_for_each_example_makes_its_start_its_own(threat: sm.Threat) -> None:
    x, _ = images(0)
    whole = threat.sample(x, [torch.Generator().manual_seed(i) for i in range(5)])
    alone = threat.sample(x[3:4], [torch.Generator().manual_seed(3)])
    assert torch.equal(whole[3:4], alone)
    with pytest.raises(ValueError, match="1 generators for 5 examples"):
        threat.sample(x, [torch.Generator()])


def test_the_steepest_direction_is_of_length_1_and_raises_the_loss_most() -> None:
    """Hölder's inequality: the rise is at most the dual norm of the gradient, and is that."""
    grad = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g = rows(grad)
    for threat, dual in ((sm.Linf(0.1), "l1"), (sm.L2(0.1), "l2")):
        step = rows(threat.steepest(grad))
        np.testing.assert_allclose(length(threat.norm, step), 1, rtol=1e-9)
        np.testing.assert_allclose((step * g).sum(1), length(dual, g), rtol=1e-9)


@pytest.mark.parametrize("densities", [None, [0.1, 0.25, 0.5, 1.0], [0.0, 0.011, 0.99, 2.0]])
def test_the_sparse_direction_moves_the_largest_entries_alike(
    densities: list[float] | None,
) -> None:
    """A share of all, rounded up and no fewer than one; by default a twentieth."""
    size = 100
    grad = torch.randn(4, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    given = None if densities is None else torch.tensor(densities, dtype=torch.float64)
    found = rows(sm.L1(1).steepest(grad.double(), given))
    for step, g, share in zip(found, rows(grad), densities or [0.05] * 4, strict=True):
        count = size - min(max(int((1 - share) * size), 0), size - 1)
        largest = np.argsort(-np.abs(g))[:count]
        expected = np.zeros(size)
        expected[largest] = np.sign(g[largest]) / count
        np.testing.assert_allclose(step, expected, rtol=1e-9)


@pytest.mark.parametrize("threat", [sm.L2(0.5), sm.L1(2)], ids=str)
def test_a_gradient_of_zero_points_nowhere(threat: sm.Threat) -> None:
    assert not bool(threat.steepest(torch.zeros(2, 1, 3, 3)).any())


@pytest.mark.parametrize(
    ("text", "norm", "eps"),
    [
        ("linf:8/255", "linf", 8 / 255),
        ("LINF: 0.0314", "linf", 0.0314),
        ("  l2:1/2 ", "l2", 0.5),
        ("l1:12", "l1", 12.0),
        ("linf:0", "linf", 0.0),
        ("linf:1", "linf", 1.0),
        ("l1:1000000", "l1", 1e6),
    ],
)
def test_threats_are_read_as_people_write_them(text: str, norm: str, eps: float) -> None:
    assert sm.Threat.parse(text) == sm.Threat(norm, eps)


@pytest.mark.parametrize(
    ("threat", "text"),
    [
        (sm.Linf(8 / 255), "linf:8/255"),
        (sm.Linf(1 / 255), "linf:1/255"),
        (sm.L2(254 / 255), "l2:254/255"),
        (sm.L2(51 / 255), "l2:0.2"),  # 1/5: the decimal is shorter, and exact
        (sm.Linf(0.0314), "linf:0.0314"),
        (sm.L1(12), "l1:12"),
        (sm.L2(0), "l2:0"),
        (sm.L1(300 / 255), "l1:1.1764705882352942"),
    ],
)
def test_a_radius_is_written_in_255ths_if_it_is_one(threat: sm.Threat, text: str) -> None:
    assert str(threat) == text


@given(st.sampled_from(["linf", "l2", "l1"]), st.one_of(st.floats(1e-30, 1), st.just(0.0)))
def test_a_threat_survives_its_text(norm: str, eps: float) -> None:
    assert sm.Threat.parse(str(sm.Threat(norm, eps))) == sm.Threat(norm, eps)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linf:8", r"did you mean linf:8/255\?"),
        ("linf:1.01", "is above 1"),
        ("linf:8/0", "'8/0' is not a number"),
        ("l3:1", "unknown norm 'l3'"),
        ("linf", "is not a threat; write norm:eps"),
        ("linf:-1", "is not between 0"),
        ("l1:1000001", "is not between 0"),
        ("l2:nan", "is not a number"),
        ("l2:inf", "is not a number"),
        ("l2:1e999", "is not a number"),
    ],
)
def test_invalid_threats_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        sm.Threat.parse(text)
    assert refused.value.exit_status == 2


def test_a_radius_that_is_0_for_float32_images_is_refused() -> None:
    least = torch.finfo(torch.float32).tiny
    for norm in ("linf", "l2", "l1"):
        assert sm.Threat(norm, least).eps == least
        assert sm.Threat(norm, 0).eps == 0
        with pytest.raises(UsageError, match="float32, the type of images, it is 0"):
            sm.Threat(norm, least / 2)
    for text in ("1e-400", "٨/255"):
        with pytest.raises(UsageError, match="is not a number"):
            sm.Linf(text)
    assert (sm.Linf("8/255"), sm.L2("0.5"), sm.L1("12")) == (
        sm.Linf(8 / 255),
        sm.L2(0.5),
        sm.L1(12),
    )


def test_a_step_in_l1_moves_the_largest_share_of_coordinates_that_is_asked_for() -> None:
    grad = torch.arange(1.0, 21).view(1, 1, 4, 5) * torch.tensor([1.0, -1.0] * 10).view(1, 1, 4, 5)
    for density, count in ((1.0, 20), (0.5, 10), (0.05, 1), (0.0, 1)):
        step = sm.L1(1).steepest(grad, torch.tensor([density])).flatten()
        expected = torch.where(grad.abs() > 20 - count, grad.sign() / count, 0.0).flatten()
        torch.testing.assert_close(step, expected)

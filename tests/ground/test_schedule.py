"""Randomness and time of a run, as functions of its seed and position."""

from __future__ import annotations

import hashlib
import itertools
import math

import pytest
import torch

from soupmerge.schedule import cosine, order, stream


def test_a_stream_depends_on_every_key_and_on_their_order() -> None:
    several = [
        (),
        (0,),
        (1,),
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        ("a", "b", ""),
        ("a", 1, 2),
        ("a", 12),
    ]
    drawn = [torch.rand(4, generator=stream(*keys)).tolist() for keys in several]
    for a, b in itertools.combinations(drawn, 2):
        assert a != b
    again = [torch.rand(4, generator=stream(*keys)).tolist() for keys in several]
    assert again == drawn


def test_a_stream_is_the_same_in_every_process_and_version() -> None:
    """Its seed is the first 63 bits of the BLAKE2b digest of the keys, as text."""
    for keys in (("attack", 3, 0, 17), ("order", 2**40, "é"), (1.5, None)):
        text = "\x1f".join(str(key) for key in keys)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        generator = stream(*keys)
        assert generator.initial_seed() == int(digest, 16) // 2
        assert generator.device == torch.device("cpu")


def test_a_stream_leaves_all_other_randomness_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(2, generator=stream("a"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_an_order_is_a_permutation_of_its_own_for_each_epoch_and_seed(n: int) -> None:
    orders = {(seed, epoch): order(n, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    for (seed, epoch), found in orders.items():
        assert found.sort().values.tolist() == list(range(n))
        assert torch.equal(found, order(n, seed, epoch))
    if n == 50:
        assert len({tuple(found.tolist()) for found in orders.values()}) == 4
        expected = torch.randperm(n, generator=stream("order", 1, 0))
        assert torch.equal(orders[1, 0], expected)


def test_a_cosine_falls_from_its_peak_to_zero() -> None:
    assert cosine(0.4, 0, 10) == 0.4
    assert cosine(0.4, 5, 10) == pytest.approx(0.2)
    assert cosine(0.4, 10, 10) == 0.0
    assert cosine(0.4, 1, 3) == pytest.approx(0.3)


def test_warm_up_rises_in_equal_parts_to_the_cosine() -> None:
    for done in range(8):
        whole = 0.1 * (1 + math.cos(math.pi * done / 8))
        assert cosine(0.2, done, 8, 3) == pytest.approx(whole * min(1, (done + 1) / 4))
    assert cosine(0.2, 0, 8, 3) == pytest.approx(0.2 / 4)

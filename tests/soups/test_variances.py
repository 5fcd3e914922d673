"""Affine coefficients: no mixed variance is negative, at the corners of a front or between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.soups.learn.soup import LEAST, LearnedSoup

VARIANCES = ((1.0, 4.0), (3.0, 1.0), (1.0, 0.5))
"""Of two units, for each ingredient; the uniform soup has 5/3 and 11/6."""


def soup_of(home: Path, *, affine: bool) -> LearnedSoup:
    """Return the soup of three networks with these variances, whose norms may have a scale."""
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=affine), nn.Linear(2, 2))
    for i, variance in enumerate(VARIANCES):
        state = {**net.state_dict(), "1.running_var": torch.tensor(variance)}
        sm.save(home / f"{i}.safetensors", state)
    ingredients = sm.load(*(home / f"{i}.safetensors" for i in range(3)))
    return LearnedSoup(net.eval(), ingredients, statistics=affine)


def variances(soup: LearnedSoup, alpha: Tensor) -> Tensor:
    """Return the mixed variances ``(2,)``."""
    return soup.mix(alpha)["1.running_var"]


@pytest.mark.parametrize("affine", [True, False])
def test_rows_are_moved_until_every_variance_is_positive(tmp_path: Path, affine: bool) -> None:
    """(3, −2, 0) would give variances of −3 and 10; only rows that need it move.

    The uniform soup has 5/3, of which a tenth stays: 0.9 · 5/3 of the way down to −3 is 1.5 of
    4 2/3, a share of 9/28. A norm without a scale follows the mean of all rows.
    """
    soup = soup_of(tmp_path, affine=affine)
    plain = torch.tensor([3.0, -2.0, 0.0]).expand(len(soup.groups), -1)
    assert variances(soup, plain).tolist() == [-3, 10]
    found = soup.with_positive_variances(plain)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert float(variances(soup, found)[0]) == pytest.approx(LEAST * 5 / 3, rel=1e-5)
    kept = torch.tensor([1.0, 1.0, 1.0]) / 3
    kept = kept + 9 / 28 * (plain[0] - kept)
    for name, row, before in zip(soup.groups, found, plain, strict=True):
        expected = kept if name == "1.weight" or not affine else before
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("affine", [True, False])
def test_no_variance_is_negative_between_corners(tmp_path: Path, affine: bool) -> None:
    soup, draw = soup_of(tmp_path, affine=affine), torch.Generator().manual_seed(0)
    for _ in range(20):
        raw = 1 / 3 + 3 * torch.randn(2, len(soup.groups), 3, generator=draw)
        raw = raw + (1 - raw.sum(2, keepdim=True)) / 3
        ends = [soup.with_positive_variances(rows) for rows in raw]
        for share in torch.linspace(0, 1, 11):
            assert float(variances(soup, torch.lerp(*ends, share)).min()) > 0

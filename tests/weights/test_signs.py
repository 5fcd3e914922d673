"""Distances and angles between ingredients, block by block."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.weights.geometry import ALL, signs
from tests.shared import near


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

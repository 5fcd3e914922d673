"""Verdicts on a GPU are those on the CPU, but for images on the edge."""

from __future__ import annotations

from pathlib import Path

import pytest

import soupmerge as sm


@pytest.mark.gpu
def test_a_gpu_gives_the_cpu_s_verdicts(trained: list[Path]) -> None:
    ingredients = sm.load(*trained)
    benchmark = sm.Benchmark(sm.data("digits", split="val"), [sm.APGD(sm.Linf(0.1), steps=20)])
    for ingredient in ingredients:
        net = sm.model(like=ingredients)
        host, card = (benchmark(sm.bind(net, ingredient, device=d)) for d in ("cpu", "cuda"))
        differing = (host.right("union") != card.right("union")).sum()
        assert int(differing) <= 3

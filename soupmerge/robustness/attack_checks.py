"""Checks by attacks that should not be stronger than the one that was reported.

Each function yields its findings, in sentences; `doubts` has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.check_case import CHANCE, STEPS, Case
from soupmerge.robustness.losses import margin
from soupmerge.robustness.threats import Threat
from soupmerge.schedule import stream

Logits = Callable[[Tensor], Tensor]

BROKEN = 0.002
"""Robust accuracy that other attacks may take away, as in pyautoattack's ``checks.py``."""
RESCALED = 0.01
"""Robust accuracy that rescaling the logits may take away."""
LEVEL = 0.05
"""Level of the sign test, as two runs of the same attack differ by some images, too."""

FEW = 10
"""Steps of the shortest APGD."""
QUERIES = 100
"""Queries of the random search."""
DRAWS = 20
"""Draws of random noise."""


def scale(case: Case) -> Iterator[str]:
    """Yield findings if logits scaled to a mean margin of 1 are easier to attack."""
    z = case.logits(case.images[0])
    margins = margin(z, case.images[1]).abs()
    mean = float(margins[torch.isfinite(margins)].mean())
    if not 0 < mean < float("inf"):
        return

    def scaled(x: Tensor) -> Tensor:
        return case.classifier(x) / mean

    for threat, reported in case.reported.items():
        attack = APGD(threat, steps=STEPS)
        before = reported & case.robust(case.under(attack))
        after = reported & case.robust(case.under(attack, scaled))
        if _is_stronger(after, before, RESCALED):
            yield (
                f"{threat}: APGD-CE on logits divided by their mean margin {mean:.3g} leaves "
                f"{_count(after)} of {len(reported)} images robust, on the original logits "
                f"{_count(before)}; the drop is above {RESCALED:.0%}"
            )


def ladder(case: Case) -> Iterator[str]:
    """Yield findings if robust accuracy does not fall to chance as the radius grows."""
    y = case.images[1]
    changed = _count(case.clean.cpu() != case.clean_by_report[case.indices])
    if changed:
        yield f"at radius 0, {changed} of {len(y)} verdicts differ from those of the report"
    for threat in case.reported:
        smaller, robust_before = 0.0, case.clean
        for eps in _radii(threat):
            robust = case.robust(case.under(APGD(Threat(threat.norm, eps), steps=STEPS)))
            if _is_stronger(robust_before, robust):
                yield (
                    f"{threat.norm}: radius {eps:.3g} leaves {_count(robust)} of {len(y)} images "
                    f"robust, but the smaller radius {smaller:.3g} only {_count(robust_before)}"
                )
            if threat.norm == "linf" and eps == 0.5:
                yield from _at_grey(robust, y)
            smaller, robust_before = eps, robust


def _radii(threat: Threat) -> list[float]:
    if threat.norm != "linf":
        return [threat.eps / 2, threat.eps, 2 * threat.eps]
    return sorted({threat.eps / 2, threat.eps, min(2 * threat.eps, 1.0), 0.5})


def _at_grey(robust: Tensor, y: Tensor) -> Iterator[str]:
    # Grey is within 0.5 of every image and gets one answer. The bound therefore holds for these
    # very images, without any allowance for sampling.
    most = float(y.bincount().max()) / len(y)
    if _count(robust) / len(y) > most + CHANCE:
        yield (
            f"linf:0.5 leaves {_count(robust)} of {len(y)} images robust, more than {CHANCE:.0%} "
            f"above the share of their most frequent label, {most:.1%}"
        )


def steps(case: Case) -> Iterator[str]:
    """Yield findings if fewer steps are stronger."""
    for threat, reported in case.reported.items():
        attack = case.report.attacks[str(threat)]
        for few in (FEW, STEPS):
            robust = case.robust(case.under(APGD(threat, steps=few)))
            if _is_stronger(robust, reported):
                yield (
                    f"{threat}: {few} steps of APGD-CE leave {_count(robust)} of {len(reported)} "
                    f"images robust, but {attack['attack']} of {attack.get('steps', '?')} steps "
                    f"left {_count(reported)}"
                )


def black_box(case: Case) -> Iterator[str]:
    """Yield findings if a random search is stronger."""
    yield from _by_points(case, random_search, QUERIES, f"a random search of {QUERIES} queries")


def noise(case: Case) -> Iterator[str]:
    """Yield findings if random noise is stronger."""
    yield from _by_points(case, best_noise, DRAWS, f"the best of {DRAWS} draws of noise")


def _by_points(case: Case, search: Callable[..., Tensor], tries: int, name: str) -> Iterator[str]:
    for threat in case.reported:
        generator = stream("doubts", case.benchmark.seed, threat)
        points = search(case.logits, *case.images, threat, generator, tries)
        yield from _compared(case, threat, case.robust(case.logits(points)), name)


def transfer(case: Case) -> Iterator[str]:
    """Yield findings if adversarial images made on other classifiers are stronger."""
    for i, source in enumerate(case.sources, start=1):
        for threat in case.reported:
            attack = APGD(threat, steps=STEPS, until_fooled=False)
            robust = case.robust(case.under(attack, source))
            yield from _compared(case, threat, robust, f"an attack on classifier {i}")


def _compared(case: Case, threat: Threat, robust: Tensor, rival: str) -> Iterator[str]:
    """Yield how *rival* beats the reported attack: in all, or on any image if it is AutoAttack."""
    reported, attack = case.reported[threat], case.report.attacks[str(threat)]["attack"]
    broken = _count(reported & ~robust)
    if _is_stronger(robust, reported, BROKEN):
        yield (
            f"{threat}: {rival} leaves {_count(robust)} of {len(reported)} images robust, but "
            f"{attack} left {_count(reported)}; the drop is above {BROKEN:.1%}"
        )
    elif attack.startswith("autoattack") and broken / len(reported) > BROKEN:
        yield (
            f"{threat}: {rival} breaks {broken} of {_count(reported)} images on which {attack} "
            f"failed, more than {BROKEN:.1%} of {len(reported)}"
        )


def _is_stronger(rival: Tensor, attack: Tensor, by: float = 0.0) -> bool:
    """Return whether *rival* leaves significantly fewer images robust, by a fraction above *by*.

    Of the images that only one of the two breaks, half would be the rival's if both were equally
    strong: the sign test (McNemar's, exact and one-sided) at `LEVEL`.
    """
    rivals_own, attacks_own = _count(attack & ~rival), _count(rival & ~attack)
    if (rivals_own - attacks_own) / len(attack) <= by:
        return False
    from scipy.stats import binomtest  # takes most of a second to load

    test = binomtest(rivals_own, rivals_own + attacks_own, alternative="greater")
    return bool(test.pvalue < LEVEL)


def _count(flags: Tensor) -> int:
    return int(flags.sum())


def random_search(
    logits: Logits, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator, queries: int
) -> Tensor:
    """Return images of higher margin, found without gradients.

    For Linf this is Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049): stripes, then
    shrinking squares, each kept if the margin rises. For L2 and L1 the same squares are added and
    the sum is projected, which is weaker than the search of that paper.

    Args:
        logits: images ``(B, C_in, H, W)`` to logits ``(B, C)``.
        x: clean images.
        y: labels.
        threat: the threat model.
        generator: randomness for the squares.
        queries: how many squares are tried.
    """
    stripes = _signs(x[:, :, :1, :], generator).expand_as(x)
    start = threat.project(x + threat.eps * threat.steepest(stripes), x)
    best, loss = _better(logits, y, start, x, x.new_full(y.shape, -torch.inf))
    for i in range(queries):
        share = 0.8 * 2 ** (-8 * i / queries)
        window = _windows(x, share, generator)
        point = threat.project(best + 2 * threat.eps * threat.steepest(window), x)
        best, loss = _better(logits, y, point, best, loss)
    return best


def _windows(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return a square of *share* of each image: one sign for each channel, and 0 outside."""
    batch, channels, height, width = x.shape
    side = max(1, min(height, width, round((share * height * width) ** 0.5)))
    top = torch.randint(height - side + 1, (batch, 1, 1, 1), generator=generator)
    left = torch.randint(width - side + 1, (batch, 1, 1, 1), generator=generator)
    row, column = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    window: Tensor = _signs(x[:, :, :1, :1], generator) * inside.to(x)
    return window


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (2.0 * torch.randint(2, like.shape, generator=generator) - 1).to(like)


def best_noise(
    logits: Logits, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator, draws: int
) -> Tensor:
    """Return, for each image, the noise of highest margin, of *draws* on and in the ball."""
    best, loss = x, x.new_full(y.shape, -torch.inf)
    for i in range(draws):
        corner = threat.steepest(torch.randn(x.shape, generator=generator).to(x))
        on_ball = threat.project(x + threat.eps * corner, x)
        point = threat.sample(x, generator) if i % 2 else on_ball
        best, loss = _better(logits, y, point, best, loss)
    return best


def _better(
    logits: Logits, y: Tensor, point: Tensor, best: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """Return, for each image, the point of higher margin, and that margin."""
    # A margin that is not a number counts as fooled, like the logits it comes from.
    new = margin(logits(point), y).nan_to_num(nan=torch.inf)
    return torch.where((new > loss).view(-1, 1, 1, 1), point, best), torch.maximum(loss, new)

"""Rivals: attacks that should not be stronger than the one that was reported, and are asked anyway.

Each function yields what it found, in sentences; `doubts` has the table.
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

# The threshold of pyautoattack's checks.py, and ours: robust accuracy that a random search may
# take from AutoAttack's, and that rescaled logits may cost.
BROKEN = 0.002
RESCALED = 0.01

LEVEL = 0.05
"""Of the sign test: two runs of one attack differ by some images, too."""

FEW = 10
QUERIES = 100
DRAWS = 20


def scale(case: Case) -> Iterator[str]:
    """Yield whether logits brought to a mean margin of 1 are easier to attack."""
    z = case.logits(case.images[0])
    margins = margin(z, case.images[1]).abs()
    mean = float(margins[torch.isfinite(margins)].mean())
    if not 0 < mean < float("inf"):
        return

    def scaled(x: Tensor) -> Tensor:
        return case.classifier(x) / mean

    for threat, held in case.held.items():
        attack = APGD(threat, steps=STEPS)
        before = held & case.robust(attack)
        after = held & case.robust(attack, scaled)
        if _stronger(after, before, RESCALED):
            yield (
                f"{threat}: APGD-CE on logits divided by their mean margin {mean:.3g} leaves "
                f"{_count(after)} of {len(held)} images robust, and {_count(before)} on them as "
                f"they are: the drop is above {RESCALED:.0%}"
            )


def ladder(case: Case) -> Iterator[str]:
    """Yield whether robust accuracy fails to fall with the radius, from the report's to chance."""
    y = case.images[1]
    changed = _count(case.clean.cpu() != case.clean_by_report[case.indices])
    if changed:
        yield f"at radius 0, {changed} of {len(y)} verdicts are not those of the report"
    for threat in case.held:
        lower, below = 0.0, case.clean
        for eps in _rungs(threat):
            robust = case.robust(APGD(Threat(threat.norm, eps), steps=STEPS))
            if _stronger(below, robust):
                yield (
                    f"{threat.norm}: radius {eps:.3g} leaves {_count(robust)} of {len(y)} images "
                    f"robust, the smaller {lower:.3g} only {_count(below)}"
                )
            if threat.norm == "linf" and eps == 0.5:
                yield from _at_grey(robust, y)
            lower, below = eps, robust


def _rungs(threat: Threat) -> list[float]:
    if threat.norm != "linf":
        return [threat.eps / 2, threat.eps, 2 * threat.eps]
    return sorted({threat.eps / 2, threat.eps, min(2 * threat.eps, 1.0), 0.5})


def _at_grey(robust: Tensor, y: Tensor) -> Iterator[str]:
    # Grey is within 0.5 of every image and gets one answer, so the bound holds for these very
    # images and needs no room for sampling.
    most = float(y.bincount().max()) / len(y)
    if _count(robust) / len(y) > most + CHANCE:
        yield (
            f"linf:0.5 leaves {_count(robust)} of {len(y)} images robust, above {most:.1%}, the "
            f"share of their most frequent label, by more than {CHANCE:.0%}"
        )


def steps(case: Case) -> Iterator[str]:
    """Yield whether fewer steps are stronger."""
    for threat, held in case.held.items():
        told = case.report.attacks[str(threat)]
        for few in (FEW, STEPS):
            robust = case.robust(APGD(threat, steps=few))
            if _stronger(robust, held):
                yield (
                    f"{threat}: {few} steps of APGD-CE leave {_count(robust)} of {len(held)} "
                    f"images robust, {told['attack']} of {told.get('steps', '?')} steps left "
                    f"{_count(held)}"
                )


def black_box(case: Case) -> Iterator[str]:
    """Yield whether a random search is stronger."""
    for threat in case.held:
        found = random_search(case.logits, *case.images, threat, _stream(case, threat), QUERIES)
        robust = case.clean & case.right(case.logits(found))
        yield from _beaten(case, threat, robust, f"a random search of {QUERIES} queries")


def noise(case: Case) -> Iterator[str]:
    """Yield whether random noise is stronger."""
    for threat in case.held:
        found = best_noise(case.logits, *case.images, threat, _stream(case, threat), DRAWS)
        robust = case.clean & case.right(case.logits(found))
        yield from _beaten(case, threat, robust, f"the best of {DRAWS} draws of noise")


def transfer(case: Case) -> Iterator[str]:
    """Yield whether adversarial images of other classifiers are stronger."""
    for i, source in enumerate(case.sources, start=1):
        for threat in case.held:
            robust = case.robust(APGD(threat, steps=STEPS, until_fooled=False), source)
            yield from _beaten(case, threat, robust, f"what was made on classifier {i}")


def _stream(case: Case, threat: Threat) -> torch.Generator:
    return stream("doubts", case.benchmark.seed, threat)


def _beaten(case: Case, threat: Threat, robust: Tensor, rival: str) -> Iterator[str]:
    """Yield how *rival* beats the reported attack: as a whole, or AutoAttack on any image."""
    held, told = case.held[threat], case.report.attacks[str(threat)]["attack"]
    broken = _count(held & ~robust)
    if _stronger(robust, held, BROKEN):
        yield (
            f"{threat}: {rival} leaves {_count(robust)} of {len(held)} images robust, {told} left "
            f"{_count(held)}: the drop is above {BROKEN:.1%}"
        )
    elif told.startswith("autoattack") and broken / len(held) > BROKEN:
        yield (
            f"{threat}: {rival} breaks {broken} of {_count(held)} images on which {told} failed, "
            f"above {BROKEN:.1%} of {len(held)}"
        )


def _stronger(rival: Tensor, attack: Tensor, by: float = 0.0) -> bool:
    """Return whether fewer images are robust under *rival*, by a share above *by* and no accident.

    Of the images that only one of the two breaks, half would be the rival's if both were equally
    strong: the sign test (McNemar's, exact and one-sided) at `LEVEL`.
    """
    ours, theirs = _count(attack & ~rival), _count(rival & ~attack)
    if (ours - theirs) / len(attack) <= by:
        return False
    from scipy.stats import binomtest  # takes most of a second to load

    return bool(binomtest(ours, ours + theirs, alternative="greater").pvalue < LEVEL)


def _count(flags: Tensor) -> int:
    return int(flags.sum())


def random_search(
    logits: Logits, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator, queries: int
) -> Tensor:
    """Return images of higher margin, found by asking for logits alone.

    Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049) for Linf: stripes, then squares
    that shrink, each kept if the margin rises. In L2 and L1 the same squares are added and the sum
    is projected, which is a weaker search than that paper's.
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
    """Return, for each image, a square of *share* of its area: one sign a channel, 0 outside."""
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
    """Return, for each image, the draw of highest margin: at corners of the ball, and inside."""
    best, loss = x, x.new_full(y.shape, -torch.inf)
    for i in range(draws):
        corner = threat.steepest(torch.randn(x.shape, generator=generator).to(x))
        away = threat.project(x + threat.eps * corner, x)
        point = threat.sample(x, generator) if i % 2 else away
        best, loss = _better(logits, y, point, best, loss)
    return best


def _better(
    logits: Logits, y: Tensor, point: Tensor, best: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """Return, for each image, the point of higher margin, and that margin."""
    # Logits that are not finite are no right answer.
    found = margin(logits(point), y).nan_to_num(nan=torch.inf)
    return torch.where((found > loss).view(-1, 1, 1, 1), point, best), torch.maximum(loss, found)

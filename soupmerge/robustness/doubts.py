"""Reasons to doubt a robust accuracy: masked gradients, and images that other attacks break.

After pyautoattack's ``checks.py`` (Croce & Hein 2020, arXiv 2003.01690), Athalye et al. 2018,
"Obfuscated gradients give a false sense of security" (arXiv 1802.00420), and Carlini et al. 2019,
"On evaluating adversarial robustness" (arXiv 1902.06705). ``docs/flags.md`` explains each check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from soupmerge.errors import UsageError
from soupmerge.robustness import attack_checks as attack
from soupmerge.robustness import behaviour_checks as behaviour
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.check_case import Case, state_restored
from soupmerge.robustness.report import Report
from soupmerge.types import Classifier, Progress, quiet


@dataclass(frozen=True)
class Doubt:
    """One reason not to believe a robust accuracy.

    Attributes:
        name: name of the check, which has a section of that name in ``docs/flags.md``.
        what: what the check found, with figures and the threshold.
        fix: what to do about it.
    """

    name: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}; {self.fix} (docs/flags.md#{self.name})"


def doubts(
    classifier: Classifier,
    benchmark: Benchmark,
    report: Report,
    *,
    n: int = 64,
    checks: Sequence[str] | None = None,
    transfer_from: Sequence[Classifier] = (),
    progress: Progress = quiet,
) -> tuple[Doubt, ...]:
    """Return the reasons to doubt *report*; if there are none, that does not prove it right.

    They depend on the benchmark's seed alone. The classifier, including its mode and its batch
    statistics, and all global randomness are left as they were.

    Args:
        classifier: images ``(B, C_in, H, W)`` in [0, 1] to logits ``(B, C)``. It is examined as it
            is, even in training mode.
        benchmark: the benchmark that made the report.
        report: the report on *classifier*.
        n: how many images to examine, at most; those that are right without attack come first. The
            cost is about 150 steps of APGD on them for each threat.
        checks: names of the checks to make, from `CHECKS`; None makes all.
        transfer_from: classifiers whose adversarial images are tried too, such as the ingredients
            of a soup.
        progress: callback for progress, in checks; see `types.Progress`.

    Raises:
        UsageError: *n* is below 1.
        InputError: the report was not made by this benchmark.

    Example:
        >>> import soupmerge as sm
        >>> test = sm.Benchmark(sm.data("digits", limit=8), [sm.APGD(sm.Linf(0.1), steps=5)])
        >>> net = sm.model("digits-cnn").eval()
        >>> [doubt.name for doubt in doubts(net, test, test(net))]  # it was never trained
        ['chance']
    """
    if n < 1:
        raise UsageError(f"{n} is not a number of images ≥ 1", where="n", fix="give at least 1")
    case = Case(classifier, benchmark, report, n, transfer_from)
    due = {name: CHECKS[name] for name in CHECKS if checks is None or name in checks}
    found = []
    for done, (name, check) in enumerate(due.items()):
        progress("doubts", done, len(due), name)
        with state_restored(classifier, benchmark.seed):
            found += [Doubt(name, what, check.fix) for what in check.examine(case)]
    progress("doubts", len(due), len(due))
    return tuple(dict.fromkeys(found))  # the ladders of two threats may share radii


class Check(NamedTuple):
    """A check: a function that yields its findings, in sentences, and what to do about them."""

    examine: Callable[[Case], Iterator[str]]
    fix: str


_BETTER = "the robust accuracy is lower than reported; judge by AutoAttack"

CHECKS: dict[str, Check] = {
    "training": Check(behaviour.training, "call its eval(), or use bind()"),
    "dynamic": Check(behaviour.dynamic, "attack through what it optimises (Croce et al. 2022)"),
    "randomised": Check(behaviour.randomised, "judge by AutoAttack's version rand"),
    "probabilities": Check(behaviour.probabilities, "return the logits, without softmax"),
    "not-finite": Check(
        behaviour.not_finite, "find the layer that overflows; such answers count as wrong"
    ),
    "classes": Check(behaviour.classes, "the margin replaces such losses; judge by APGD-CE"),
    "chance": Check(behaviour.chance, "check the order of the labels, the mean and the std"),
    "zero-gradient": Check(
        behaviour.zero_gradient, "judge by attacks without gradients, such as Square"
    ),
    "scale": Check(attack.scale, "judge by a loss that is independent of scale, such as DLR"),
    "ladder": Check(attack.ladder, "its gradients mislead attacks; judge by AutoAttack"),
    "steps": Check(attack.steps, "judge with 100 steps or more, or by AutoAttack"),
    "black-box": Check(attack.black_box, _BETTER),
    "noise": Check(attack.noise, _BETTER),
    "transfer": Check(attack.transfer, _BETTER),
}
"""Name → check, in the order in which they run."""

CHEAP = (
    "training",
    "dynamic",
    "randomised",
    "probabilities",
    "not-finite",
    "classes",
    "chance",
    "zero-gradient",
    "scale",
)
"""Checks that cost no more than a few forward passes and two short attacks for each threat."""

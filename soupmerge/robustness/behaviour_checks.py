"""How a classifier behaves, whatever attacks it: what makes gradients, or verdicts, misleading.

Each function yields what it found, in sentences; `doubts` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.check_case import CHANCE, STEPS, Case, Snapshot
from soupmerge.robustness.losses import classes_needed
from soupmerge.robustness.report import CLEAN

# The thresholds of pyautoattack's checks.py.
PASSES, RANDOM = 5, 1e-4
PROBABILITY = 1e-5

LOSS_OF = {
    "apgd-t": "dlr-t",
    "autoattack-standard": "dlr-t",
    "autoattack-plus": "dlr-t",
    "autoattack-rand": "dlr",
}
"""Names of AutoAttack's → the loss among theirs that needs most classes."""


def randomised(case: Case) -> Iterator[str]:
    """Yield whether passes over the same images differ."""
    x, y = case.images
    passes = [case.logits(x).nan_to_num() for _ in range(PASSES)]
    counts = {int((logits.argmax(1) == y).sum()) for logits in passes}
    units = torch.stack(
        [z / (torch.linalg.vector_norm(z, dim=1, keepdim=True) + 1e-10) for z in passes]
    )
    apart = max(float(torch.linalg.vector_norm(units - unit, dim=2).max()) for unit in units)
    if len(counts) > 1 or apart > RANDOM:
        yield (
            f"{PASSES} passes over the same {len(y)} images get from {min(counts)} to "
            f"{max(counts)} right, and normalised logits differ by {apart:.2g}, above {RANDOM:g}"
        )


def dynamic(case: Case) -> Iterator[str]:
    """Yield whether it differentiates while it classifies."""
    asked = 0

    def unpack(tensor: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return tensor

    x, _, _ = next(case.parts)
    try:
        # What a forward pass saves is taken out again only if something is differentiated.
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), unpack)
        with torch.enable_grad(), hooks:
            case.classifier(x)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):  # torch.func refuses to differentiate
            raise
        asked += 1
    if asked:
        yield "it takes gradients while it classifies"


def training(case: Case) -> Iterator[str]:
    """Yield whether it is, or acts as, in training mode."""
    if not isinstance(case.classifier, nn.Module):
        return
    modules = [n or "the model" for n, m in case.classifier.named_modules() if m.training]
    if modules:
        yield f"{modules[0]} is in training mode" + _others(modules, "modules")
    before = Snapshot(case.classifier)
    case.logits(case.images[0])
    changed = before.changed()
    if changed:
        yield f"classifying images changes {changed[0]}" + _others(changed, "tensors")


def _others(names: Sequence[str], what: str) -> str:
    return f", one of {len(names)} {what}" if len(names) > 1 else ""


def probabilities(case: Case) -> Iterator[str]:
    """Yield whether it returns probabilities for logits."""
    z = case.logits(case.images[0])
    off = (z.sum(1) - 1).abs().max()
    if z.min() > -PROBABILITY and z.max() < 1 + PROBABILITY and off < PROBABILITY:
        yield f"every row of outputs lies in 0 … 1 and sums to 1 within {PROBABILITY:g}"


def not_finite(case: Case) -> Iterator[str]:
    """Yield whether logits are not finite, clean or under attack."""
    logits = {CLEAN: case.logits(case.images[0])}
    logits |= {str(threat): case.under(APGD(threat, steps=STEPS)) for threat in case.held}
    for name, z in logits.items():
        bad = int((~torch.isfinite(z).all(1)).sum())
        if bad:
            yield f"{name}: the logits of {bad} of {len(z)} images are not finite"


def zero_gradient(case: Case) -> Iterator[str]:
    """Yield whether no gradient comes through."""
    flat = int((case.clean & (case.steepness() == 0)).sum())
    if flat:
        share = f"{flat} of {int(case.clean.sum())} images that are right"
        yield f"the gradient of the cross-entropy is exactly 0 on {share}"


def chance(case: Case) -> Iterator[str]:
    """Yield whether it may as well guess."""
    labels = case.benchmark.data.labels
    most = float(labels.bincount().max()) / len(labels)
    low, _ = case.report.interval(CLEAN)
    if low <= most + CHANCE:
        yield (
            f"clean accuracy {case.report.accuracy(CLEAN):.1%} (95% from {low:.1%}) is not above "
            f"{most:.1%}, the share of the most frequent label, by more than {CHANCE:.0%}"
        )


def classes(case: Case) -> Iterator[str]:
    """Yield whether a reported loss needs more classes than it has."""
    found = case.logits(case.images[0][:1]).shape[1]
    for threat, told in case.report.attacks.items():
        names = [*told["attack"].split(" + "), *told.get("attacks", ())]
        needed = max(classes_needed(LOSS_OF.get(name, name.partition("-")[2])) for name in names)
        if found < needed:
            yield f"{threat}: a loss of {told['attack']} needs {needed} classes, not {found}"

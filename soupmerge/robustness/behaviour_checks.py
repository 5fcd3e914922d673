"""Checks of how a classifier behaves, for what makes gradients or verdicts misleading.

Each function yields its findings, in sentences; `doubts` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from soupmerge.choices import LOSSES
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.benchmark import training_modules
from soupmerge.robustness.check_case import CHANCE, STEPS, Case, ModuleBackup
from soupmerge.robustness.report import CLEAN

PASSES = 5
"""Passes over the same images; this and the thresholds are those of pyautoattack's checks.py."""
RANDOM = 1e-4
"""Distance between normalised logits of two passes."""
PROBABILITY = 1e-5
"""Distance of outputs from being probabilities."""

LOSS_OF = {
    "apgd-t": "dlr-t",
    "autoattack-standard": "dlr-t",
    "autoattack-plus": "dlr-t",
    "autoattack-rand": "dlr",
}
"""AutoAttack's versions and attacks → their loss that needs the most classes."""


def randomised(case: Case) -> Iterator[str]:
    """Yield a finding if passes over the same images differ."""
    x, y = case.images
    passes = [case.logits(x).nan_to_num() for _ in range(PASSES)]
    counts = {int((logits.argmax(1) == y).sum()) for logits in passes}
    units = torch.stack(
        [z / (torch.linalg.vector_norm(z, dim=1, keepdim=True) + 1e-10) for z in passes]
    )
    apart = max(float(torch.linalg.vector_norm(units - unit, dim=2).max()) for unit in units)
    if len(counts) > 1 or apart > RANDOM:
        yield (
            f"in {PASSES} passes over the same {len(y)} images, {min(counts)} to {max(counts)} "
            f"are right, and normalised logits differ by {apart:.2g}; {RANDOM:g} is tolerated"
        )


def dynamic(case: Case) -> Iterator[str]:
    """Yield a finding if the classifier computes gradients while it classifies."""
    differentiates = False

    def unpack(tensor: Tensor) -> Tensor:
        nonlocal differentiates
        differentiates = True
        return tensor

    x, _, _ = next(case.batches)
    try:
        # Tensors that a forward pass saves are unpacked only for a gradient.
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), unpack)
        with torch.enable_grad(), hooks:
            case.classifier(x)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):  # torch.func refuses to work with hooks
            raise
        differentiates = True
    if differentiates:
        yield "it computes gradients while it classifies"


def training(case: Case) -> Iterator[str]:
    """Yield findings if the classifier is in training mode, or acts as if it were."""
    if not isinstance(case.classifier, nn.Module):
        return
    modules = training_modules(case.classifier)
    if modules:
        yield f"{modules[0]} is in training mode" + _others(modules, "modules")
    backup = ModuleBackup(case.classifier)
    case.logits(case.images[0])
    changed = backup.changed()
    if changed:
        yield f"classifying images changes {changed[0]}" + _others(changed, "tensors")


def _others(names: Sequence[str], what: str) -> str:
    return f", one of {len(names)} {what}" if len(names) > 1 else ""


def probabilities(case: Case) -> Iterator[str]:
    """Yield a finding if the classifier returns probabilities instead of logits."""
    z = case.outputs(case.images[0])
    off = (z.sum(1) - 1).abs().max()
    if z.min() > -PROBABILITY and z.max() < 1 + PROBABILITY and off < PROBABILITY:
        yield f"each row of outputs is in [0, 1] and sums to 1, within {PROBABILITY:g}"


def not_finite(case: Case) -> Iterator[str]:
    """Yield findings if logits are not finite, without or under attack."""
    logits = {CLEAN: case.logits(case.images[0])}
    logits |= {str(threat): case.under(APGD(threat, steps=STEPS)) for threat in case.reported}
    for name, z in logits.items():
        bad = int((~torch.isfinite(z).all(1)).sum())
        if bad:
            yield f"{name}: the logits of {bad} of {len(z)} images are not finite"


def zero_gradient(case: Case) -> Iterator[str]:
    """Yield a finding if gradients vanish."""
    flat = int((case.clean & (case.gradient_norms() == 0)).sum())
    if flat:
        share = f"{flat} of {int(case.clean.sum())} images that are classified correctly"
        yield f"the gradient of the cross-entropy is exactly 0 on {share}"


def chance(case: Case) -> Iterator[str]:
    """Yield a finding if the clean accuracy may be that of guessing."""
    labels = case.benchmark.data.labels
    most = float(labels.bincount().max()) / len(labels)
    low, _ = case.report.interval(CLEAN)
    if low <= most + CHANCE:
        yield (
            f"clean accuracy {case.report.accuracy(CLEAN):.1%} (95% interval from {low:.1%}) is "
            f"not significantly more than {CHANCE:.0%} above the share of the most frequent label, "
            f"{most:.1%}"
        )


def classes(case: Case) -> Iterator[str]:
    """Yield findings if a reported loss needs more classes than there are."""
    count = case.logits(case.images[0][:1]).shape[1]
    for threat, attack in case.report.attacks.items():
        names = [*attack["attack"].split(" + "), *attack.get("attacks", ())]
        losses = [LOSS_OF.get(name, name.partition("-")[2]) for name in names]
        needed = max(LOSSES[loss].classes if loss in LOSSES else 2 for loss in losses)
        if count < needed:
            yield f"{threat}: a loss of {attack['attack']} needs {needed} classes, not {count}"

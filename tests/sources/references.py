"""Networks written out once more, as functions of their tensors: what the modules must agree with.

Each follows the equations of its paper and the names of its published files, and shares no line
with `soupmerge.sources.models`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]
Function = Callable[[Tensor], Tensor]


def conv(x: Tensor, s: State, name: str, stride: int = 1, same: bool = True) -> Tensor:
    weight = s[f"{name}.weight"]
    pad = weight.shape[-1] // 2 if same else 0
    return F.conv2d(x, weight, s.get(f"{name}.bias"), stride, pad)


def norm(x: Tensor, s: State, name: str) -> Tensor:
    mean, var, scale, shift = (
        s[f"{name}.{part}"].view(-1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def head(x: Tensor, s: State, name: str) -> Tensor:
    return x.mean((2, 3)) @ s[f"{name}.weight"].T + s[f"{name}.bias"]


def stages(s: State, form: str) -> list[list[str]]:
    """Return the blocks of each stage, by names of *form*, ``layer{}.{}``, as far as they are."""
    found: list[list[str]] = []
    first = 0 if any(name.startswith(f"{form.format(0, 0)}.") for name in s) else 1
    for stage in count(first):
        blocks: list[str] = []
        while any(n.startswith(f"{form.format(stage, len(blocks))}.") for n in s):
            blocks.append(form.format(stage, len(blocks)))
        if not blocks:
            return found
        found.append(blocks)
    raise AssertionError


def strides(blocks: list[list[str]]) -> list[tuple[str, int]]:
    """Return each block with its stride: 2 in the first of all stages but the first."""
    return [
        (b, 2 if i and not j else 1) for i, stage in enumerate(blocks) for j, b in enumerate(stage)
    ]


def digits_cnn(x: Tensor, s: State) -> Tensor:
    for i, stride in ((0, 1), (3, 2), (6, 2)):
        x = F.relu(norm(conv(x, s, f"features.{i}", stride), s, f"features.{i + 1}"))
    return head(x, s, "head")


def resnet9(x: Tensor, s: State) -> Tensor:
    def block(x: Tensor, name: str) -> Tensor:
        return F.relu(norm(conv(x, s, f"{name}.0"), s, f"{name}.1"))

    def pair(x: Tensor, name: str) -> Tensor:
        return x + block(block(x, f"{name}.0"), f"{name}.1")

    x = F.max_pool2d(block(block(x, "prep"), "layer1"), 2)
    x = pair(x, "res1")
    for name in ("layer2", "layer3"):
        x = F.max_pool2d(block(x, name), 2)
    x = pair(x, "res2")
    return x.flatten(2).max(2).values @ s["fc.weight"].T + s["fc.bias"]


def preact_resnet18(x: Tensor, s: State, *, late: bool = False) -> Tensor:
    x = conv(x, s, "conv1")
    for name, stride in strides(stages(s, "layer{}.{}")):
        active = F.relu(norm(x, s, f"{name}.bn1"))
        out = conv(
            F.relu(norm(conv(active, s, f"{name}.conv1", stride), s, f"{name}.bn2")),
            s,
            f"{name}.conv2",
        )
        if f"{name}.shortcut.0.weight" in s:
            x = conv(active if late else x, s, f"{name}.shortcut.0", stride)
        x = x + out
    if "bn.weight" in s:
        x = F.relu(norm(x, s, "bn"))
    return head(x, s, "linear")


def preact_resnet50(x: Tensor, s: State) -> Tensor:
    x = F.relu(norm(conv(x, s, "conv1"), s, "bn1"))
    for name, stride in strides(stages(s, "layer{}.{}")):
        active = F.relu(norm(x, s, f"{name}.bn0"))
        out = F.relu(norm(conv(active, s, f"{name}.conv1"), s, f"{name}.bn1"))
        out = conv(
            F.relu(norm(conv(out, s, f"{name}.conv2", stride), s, f"{name}.bn2")),
            s,
            f"{name}.conv3",
        )
        changes = f"{name}.shortcut.0.weight" in s
        x = out + (
            norm(conv(active, s, f"{name}.shortcut.0", stride), s, f"{name}.shortcut.1")
            if changes
            else x
        )
    return head(x, s, "linear")


def wide_resnet(
    x: Tensor,
    s: State,
    act: Function = F.relu,
    *,
    stem: str = "conv1",
    form: str = "block{}.layer.{}",
    shortcut: str = "convShortcut",
    last: str = "bn1",
) -> Tensor:
    x = conv(x, s, stem)
    for name, stride in strides(stages(s, form)):
        active = act(norm(x, s, f"{name}.bn1"))
        out = conv(
            act(norm(conv(active, s, f"{name}.conv1", stride), s, f"{name}.bn2")),
            s,
            f"{name}.conv2",
        )
        changes = f"{name}.{shortcut}.weight" in s
        x = out + (conv(active, s, f"{name}.{shortcut}", stride) if changes else x)
    features = act(norm(x, s, last)).mean((2, 3))
    weight, bias = s["fc.weight"], s.get("fc.bias")
    if bias is None:  # the cosines of angles to the rows of the weight
        return F.cosine_similarity(features[:, None], weight[None], dim=2)
    return features @ weight.T + bias


def padded(x: Tensor, stride: int) -> Tensor:
    """Pad as TensorFlow does: what a stride of 2 leaves of even sizes is below and on the right."""
    before = 1 if stride == 1 else 0
    wide = x.new_zeros(*x.shape[:2], x.shape[2] + before + 1, x.shape[3] + before + 1)
    wide[:, :, before : before + x.shape[2], before : before + x.shape[3]] = x
    return wide


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def pssilu(alpha: float, beta: float) -> Function:
    a, b = abs(alpha), abs(beta)
    return lambda x: x * (1 / (1 + torch.exp(-a * x)) - b) / (1 - b)


def sparse(x: Tensor, s: State, name: str) -> Tensor:
    """Numbers nearer to their channel's mean than so many deviations become that mean."""
    if f"{name}.threshold" not in s:
        return x
    mean, var = (s[f"{name}.running_{part}"].view(-1, 1, 1) for part in ("mean", "var"))
    far = (x - mean) ** 2 >= s[f"{name}.threshold"] ** 2 * var
    return far * x + ~far * mean


def dm_wide_resnet(x: Tensor, s: State, act: Function = silu) -> Tensor:
    x = conv(x, s, "init_conv")
    for name, stride in strides(stages(s, "layer.{}.block.{}")):
        active = act(sparse(norm(x, s, f"{name}.batchnorm_0"), s, f"{name}.meansparse_0"))
        out = conv(padded(active, stride), s, f"{name}.conv_0", stride, same=False)
        out = act(sparse(norm(out, s, f"{name}.batchnorm_1"), s, f"{name}.meansparse_1"))
        out = conv(out, s, f"{name}.conv_1")
        if f"{name}.se.fc1.weight" in s:
            squeezed = F.relu(conv(out.mean((2, 3), keepdim=True), s, f"{name}.se.fc1"))
            out = out / (1 + torch.exp(-conv(squeezed, s, f"{name}.se.fc2")))
        if f"{name}.shortcut.weight" in s:
            x = conv(active, s, f"{name}.shortcut", stride)
        x = sparse(x + out, s, f"{name}.meansparse_2")
    return head(act(sparse(norm(x, s, "batchnorm"), s, "meansparse_end")), s, "logits")


def dm_preact_resnet(x: Tensor, s: State, act: Function = silu) -> Tensor:
    x = conv(x, s, "conv_2d")
    for name, stride in strides(stages(s, "layer_{}.{}")):
        active = padded(act(norm(x, s, f"{name}.batchnorm_0")), stride)
        out = conv(active, s, f"{name}.conv_2d_1", stride, same=False)
        out = conv(act(norm(out, s, f"{name}.batchnorm_1")), s, f"{name}.conv_2d_2")
        if f"{name}.shortcut.weight" in s:
            x = conv(padded(x, stride), s, f"{name}.shortcut", stride, same=False)
        x = x + out
    return head(act(norm(x, s, "batchnorm")), s, "logits")

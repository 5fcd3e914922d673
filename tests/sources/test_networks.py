"""Networks compute what their papers say, by implementations that share no line with ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.sources.models.activations import PSSiLU
from soupmerge.sources.models.dm_wide_resnet import MeanSparse
from tests.sources import references as plain
from tests.sources.own import HERE
from tests.sources.references import State
from tests.sources.robustbench_peer import randomise

Forward = Callable[[Tensor, State], Tensor]
RA = "soupmerge.sources.models.dm_wide_resnet:DMWideResNet"
SQUEEZED: dict[str, Any] = {"blocks": (2, 1, 1), "widths": (8, 12, 16, 24), "squeeze": 0.25}


def pssilu(x: Tensor, s: State) -> Tensor:
    act = plain.pssilu(float(s["activation.alpha"]), float(s["activation.beta"]))
    return plain.wide_resnet(x, s, act)


staged = partial(plain.wide_resnet, stem="stem_conv", form="blocks.{}.layer.{}")
CASES: dict[str, tuple[str, dict[str, Any], Forward, tuple[int, int]]] = {
    "digits-cnn": ("digits-cnn", {}, plain.digits_cnn, (1, 8)),
    "resnet9": ("resnet9?width=4", {}, plain.resnet9, (3, 16)),
    "preact": ("preact-resnet18", {}, plain.preact_resnet18, (3, 16)),
    "preact, late": (
        "preact-resnet18?late=true",
        {},
        partial(plain.preact_resnet18, late=True),
        (3, 16),
    ),
    "preact, last norm": ("preact-resnet18?last_bn=true", {}, plain.preact_resnet18, (3, 16)),
    "preact, 50": ("resnet50-cifar?preact=true", {}, plain.preact_resnet50, (3, 16)),
    "wide": ("wrn-28-10?depth=16&widen=2", {}, plain.wide_resnet, (3, 8)),
    "wide, SiLU": (
        "wrn-28-10?depth=10&widen=1&activation=silu",
        {},
        partial(plain.wide_resnet, act=plain.silu),
        (3, 8),
    ),
    "wide, PSSiLU": ("wrn-28-10?depth=10&widen=1&activation=pssilu", {}, pssilu, (3, 8)),
    "wide, a stage unused": (
        "wrn-28-10?depth=10&widen=1&sub_block1=true",
        {},
        plain.wide_resnet,
        (3, 8),
    ),
    "wide, cosine": ("wrn-28-10?depth=10&widen=1&cosine=true", {}, plain.wide_resnet, (3, 8)),
    "staged": (f"{HERE}:SmallStaged", {}, staged, (3, 8)),
    "a4": (
        f"{HERE}:SmallA4",
        {},
        lambda x, s: staged(
            (x - s["mu"]) / s["sigma"], s, plain.silu, shortcut="shortcut.0", last="norm1"
        ),
        (3, 8),
    ),
    "dm": ("dm-wrn-28-10?depth=16&widen=1", {}, plain.dm_wide_resnet, (3, 8)),
    "dm, ReLU": (
        "dm-wrn-28-10?depth=10&widen=1&activation=relu",
        {},
        partial(plain.dm_wide_resnet, act=torch.relu),
        (3, 8),
    ),
    "dm, sparse": ("dm-wrn-28-10?depth=10&widen=1&sparse=true", {}, plain.dm_wide_resnet, (3, 8)),
    "dm, squeezed": (RA, SQUEEZED, plain.dm_wide_resnet, (3, 8)),
    "dm, squeezed and sparse": (RA, {**SQUEEZED, "sparse": True}, plain.dm_wide_resnet, (3, 8)),
    "dm, preact": ("dm-preact-resnet18", {}, plain.dm_preact_resnet, (3, 16)),
    "dm, preact, ReLU": (
        "dm-preact-resnet18?activation=relu",
        {},
        partial(plain.dm_preact_resnet, act=torch.relu),
        (3, 16),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_equations(name: str) -> None:
    ref, arguments, forward, (channels, side) = CASES[name]
    net = sm.model(ref, **arguments)
    randomise(net)
    net.double()
    # Large enough that no map of features is a single number.
    x = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(1)).double()
    expected = forward(x, net.state_dict())
    assert expected.std() > 0.01
    torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)


RENAMED = (("downsample", "shortcut"), ("fc.", "linear."))


@torch.no_grad()
@pytest.mark.parametrize(
    ("ref", "theirs"),
    [
        ("resnet18-cifar", torchvision.models.resnet18),
        ("resnet50-cifar", torchvision.models.resnet50),
    ],
)
def test_residual_networks_are_torchvision_s_but_for_how_they_begin(
    ref: str, theirs: Callable[..., Any]
) -> None:
    peer = theirs(num_classes=10)
    peer.conv1, peer.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    randomise(peer.eval())
    state = peer.state_dict()
    for old, new in RENAMED:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    ours = sm.model(ref)
    ours.load_state_dict(state)
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ref", "parameters"),
    [
        ("digits-cnn", 24_058),
        ("resnet9", 6_573_130),
        ("resnet9?width=16&num_classes=7&in_channels=1", 412_279),
        ("resnet18-cifar", 11_173_962),
        ("resnet18-cifar?width=16", 701_466),
        ("resnet50-cifar", 23_520_842),
        ("preact-resnet18", 11_171_146),
        ("wrn-28-10", 36_479_194),
        ("wrn-34-10", 46_160_474),
        ("wrn-40-2", 2_243_546),
        ("wrn-70-16", 266_796_506),
    ],
)
def test_networks_have_the_published_number_of_parameters(ref: str, parameters: int) -> None:
    with torch.device("meta"):
        net = sm.model(ref)
    assert sum(p.numel() for p in net.parameters()) == parameters


@torch.no_grad()
def test_a_mean_sparse_layer_leaves_what_is_far_and_nothing_else() -> None:
    layer, x = MeanSparse(2), torch.randn(3, 2, 4, 4)
    assert all(not buffer.any() for buffer in layer.buffers())
    assert torch.equal(layer(x), x)
    layer.running_mean[:], layer.running_var[:] = torch.tensor([1.0, -1]), torch.tensor([4.0, 1])
    layer.threshold.fill_(0.5)  # of the deviations 2 and 1
    x = torch.tensor([[0.0, 0.001, 1.5, 2.0, 2.001], [-1.5, -1.499, -1, -0.501, -0.5]])[
        None, :, None
    ]
    expected = torch.tensor([[0.0, 1, 1, 2, 2.001], [-1.5, -1, -1, -1, -0.5]])[None, :, None]
    assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_pssilu_is_its_equation_and_begins_as_silu() -> None:
    layer, x = PSSiLU(), torch.linspace(-5, 5, 101)
    torch.testing.assert_close(layer(x), nn.functional.silu(x))
    layer.alpha.fill_(-1.7)
    layer.beta.fill_(-0.3)
    torch.testing.assert_close(layer(x), plain.pssilu(1.7, 0.3)(x))


# ---- bodies of timm's


@torch.no_grad()
@pytest.mark.parametrize(
    ("ref", "theirs", "strides", "side"),
    [
        ("convnext-tiny-convstem", "convnext_tiny", (2, 2), 32),
        ("convnext-base-convstem", "convnext_base", (2, 2, 1), 32),
        ("vit-small-convstem", "vit_small_patch16_224", (2, 2, 2, 2), 224),
    ],
)
def test_a_convstem_is_convolutions_with_layer_norm_before_timm_s_body(
    ref: str, theirs: str, strides: tuple[int, ...], side: int
) -> None:
    with torch.device("meta"):
        ours = sm.model(ref)
    stem = next(m for n, m in ours.named_modules() if type(m).__name__ == "ConvStem")
    stem = stem.to_empty(device="cpu")
    randomise(stem)
    x = torch.rand(1, 3, side, side)
    state, out, i = dict(stem.stem.named_parameters()), x, 0
    for stride in strides:
        out = nn.functional.conv2d(out, state[f"{i}.weight"], state[f"{i}.bias"], stride, 1)
        mean, var = out.mean(1, keepdim=True), out.var(1, correction=0, keepdim=True)
        scale, shift = (state[f"{i + 1}.{n}"].view(-1, 1, 1) for n in ("weight", "bias"))
        out = nn.functional.gelu((out - mean) / (var + 1e-6).sqrt() * scale + shift)
        i += 3
    if f"{i}.weight" in state:
        out = nn.functional.conv2d(out, state[f"{i}.weight"], state[f"{i}.bias"])
    torch.testing.assert_close(stem(x), out, rtol=1e-4, atol=1e-5)
    with torch.device("meta"):
        body = timm.create_model(theirs, num_classes=1000).state_dict()
    shapes = {n: t.shape for n, t in ours.state_dict().items() if "stem" not in n}
    assert shapes == {n: t.shape for n, t in body.items() if n in shapes}
    beginning = "patch_embed.proj." if "vit" in ref else "stem."
    assert set(body) - set(shapes) == {n for n in body if n.startswith(beginning)}


@torch.no_grad()
@pytest.mark.parametrize("patch", [16, 8, 4])
def test_an_xcit_sees_as_many_patches_as_it_says(patch: int) -> None:
    net = sm.model(f"xcit-s12?num_classes=3&patch={patch}")
    seen: list[Any] = []
    net.patch_embed.register_forward_hook(lambda module, args, out: seen.append(out))
    assert net(torch.rand(1, 3, 32, 32)).shape == (1, 3)
    tokens, (height, width) = seen[0]
    assert (height, width) == (32 // patch, 32 // patch)
    assert tokens.shape == (1, height * width, 384)
    assert net.patch_embed.patch_size == patch


@torch.no_grad()
def test_an_xcit_of_16_is_timm_s() -> None:
    ours = sm.model("xcit-s12?num_classes=3")
    theirs = timm.create_model("xcit_small_12_p16_224", num_classes=3).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("size", "width", "heads"), [("s12", 384, 8), ("m12", 512, 8), ("l12", 768, 16)]
)
def test_xcits_have_their_published_widths_and_heads(size: str, width: int, heads: int) -> None:
    with torch.device("meta"):
        net = sm.model(f"xcit-{size}")
    assert (net.embed_dim, net.blocks[0].attn.num_heads, len(net.blocks)) == (width, heads, 12)
    assert net.head.out_features == 1000

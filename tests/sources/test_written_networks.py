"""Networks by their written forms: what is made, with which arguments, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import v2

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UnsafeError, UsageError
from soupmerge.sources.models.normaliser import Normaliser
from tests.sources.own import HERE

SMALL = "resnet9?width=2"


@pytest.mark.parametrize(
    ("ref", "classes", "shape"),
    [
        ("digits-cnn", 10, (1, 8, 8)),
        ("resnet9?width=4&num_classes=7", 7, (3, 32, 32)),
        ("wrn-28-10?depth=10&widen=1&activation=silu&sub_block1=true", 10, (3, 32, 32)),
        ("timm:test_resnet?num_classes=5", 5, (3, 64, 64)),
        ("timm:resnet10t?in_chans=1&num_classes=4", 4, (1, 32, 32)),
        ("timm:test_vit?img_size=32,48", 1000, (3, 32, 48)),
        (f"{HERE}:linear?num_classes=5", 5, (1, 2, 2)),
        ("rb:cifar10/corruptions/Hendrycks2020AugMix_WRN?num_classes=3", 3, (3, 8, 8)),
    ],
)
def test_a_network_is_what_its_name_says_and_its_name_gives_it_again(
    ref: str, classes: int, shape: tuple[int, ...]
) -> None:
    random = torch.get_rng_state()
    net = sm.model(ref, seed=1)
    assert torch.equal(torch.get_rng_state(), random)
    assert not net.training
    assert net(torch.rand(2, *shape)).shape == (2, classes)
    again, other = sm.model(net.soupmerge_ref, seed=1), sm.model(ref, seed=2)
    state = net.state_dict()
    assert {n: t.sum() for n, t in again.state_dict().items()} == {
        n: t.sum() for n, t in state.items()
    }
    assert any(not torch.equal(t, state[n]) for n, t in other.state_dict().items())
    x = torch.rand(2, *shape)
    torch.testing.assert_close(again(x), net(x))


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("", {}),
        ("a=1&b=-2", {"a": 1, "b": -2}),
        ("a=1.5&b=1e3&c=2.0", {"a": 1.5, "b": 1000.0, "c": 2.0}),
        ("a=true&b=False&c=NONE", {"a": True, "b": False, "c": None}),
        ("a=text&b=1,2&c=1_000&d=nan", {"a": "text", "b": "1,2", "c": "1_000", "d": "nan"}),
        ("img_size=32", {"img_size": 32}),
        ("img_size=32,48", {"img_size": (32, 48)}),
    ],
)
def test_arguments_are_read_as_they_are_written(query: str, given: dict[str, Any]) -> None:
    net: Any = sm.model(f"{HERE}:Recording" + (f"?{query}" if query else ""))
    assert net.given == given
    assert {k: type(v) for k, v in net.given.items()} == {k: type(v) for k, v in given.items()}
    again: Any = sm.model(net.soupmerge_ref)
    assert again.given == given


def test_arguments_that_are_given_come_before_those_of_the_query_and_are_written_in_order() -> None:
    net: Any = sm.model(
        f"{HERE}:Recording?z=1&a=2", z=[3, 4], flag=True, mean=[0.5, 0.25], std="1,2"
    )
    assert net.given == {"a": 2, "z": [3, 4], "flag": True}
    assert net.soupmerge_ref == f"{HERE}:Recording?a=2&flag=true&mean=0.5,0.25&std=1,2&z=3,4"


# ---- normalisers


def test_a_normaliser_is_torchvision_s_and_renames_no_tensor() -> None:
    plain = sm.model("resnet9?width=4")
    inside = sm.model("resnet9?width=4", mean="0.5,0.4,0.3", std="51/255,0.2,1e-1")
    assert plain.state_dict().keys() == inside.state_dict().keys()
    x = torch.rand(2, 3, 16, 16)
    expected = plain(v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.2, 0.1])(x))
    for net in (inside, sm.model(inside.soupmerge_ref), sm.bind(inside, plain.state_dict())):
        torch.testing.assert_close(net(x), expected)


def test_constants_are_tensors_of_the_network_and_read_from_there() -> None:
    plain = sm.model("resnet9?width=2")
    with_constants = sm.model("resnet9?width=2&mean=0.1,0.2,0.3&std=1,2,4&constants=mu,sigma")
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(
        with_constants(x), plain(v2.Normalize([0.1, 0.2, 0.3], [1, 2, 4])(x))
    )
    assert with_constants.mu.shape == with_constants.sigma.shape == (1, 3, 1, 1)
    state = {
        **plain.state_dict(),
        "mu": torch.full((1, 3, 1, 1), 0.4),
        "sigma": with_constants.sigma / 4,
    }
    expected = plain(v2.Normalize([0.4] * 3, [0.25, 0.5, 1])(x))
    torch.testing.assert_close(sm.bind(with_constants, state)(x), expected)


def test_each_image_may_be_standardised_with_a_floor_as_tensorflow_has_it() -> None:
    """(x − mean) / max(std, 1/√n), whatever is constant: nothing may be divided by 0."""
    each = sm.model(f"{HERE}:Recording?per_image=true")
    seen: list[torch.Tensor] = []
    each.forward = seen.append  # type: ignore[assignment, method-assign]
    x = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    x[1] = 0.3  # no deviation at all
    x[2] = 0.3 + 1e-3 * (x[2] - 0.5)  # less of it than the floor, 1/√48
    each(x)
    for image, found in zip(x, seen[0], strict=True):
        floor = image.numel() ** -0.5
        expected = (image - image.mean()) / max(float(image.std()), floor)
        torch.testing.assert_close(found, expected)
    assert float(seen[0][1].abs().max()) < 1e-12
    assert 0 < float(seen[0][2].std()) < 0.01


def test_timm_s_networks_bring_their_normaliser() -> None:
    x = torch.rand(1, 3, 64, 64)
    ours = sm.model("timm:test_resnet?num_classes=3")
    theirs = timm.create_model("test_resnet", num_classes=3).eval()
    theirs.load_state_dict(ours.state_dict())
    mean, std = (theirs.pretrained_cfg[key] for key in ("mean", "std"))
    torch.testing.assert_close(ours(x), theirs(v2.Normalize(mean, std)(x)))
    own = sm.model("timm:test_resnet?num_classes=3&mean=0,0,0&std=1,1,1")
    own.load_state_dict(ours.state_dict())
    torch.testing.assert_close(own(x), theirs(x))


@pytest.mark.parametrize("channels", [1, 2])
def test_for_other_channels_timm_s_constants_are_averaged(channels: int) -> None:
    with torch.device("meta"):
        net = sm.model(f"timm:resnet10t?in_chans={channels}&num_classes=4")
    (hook,) = net._forward_pre_hooks.values()
    assert isinstance(hook, Normaliser)
    assert hook.mean == pytest.approx([sum((0.485, 0.456, 0.406)) / 3] * channels)
    assert hook.std == pytest.approx([sum((0.229, 0.224, 0.225)) / 3] * channels)


# ---- like a checkpoint


def saved(path: Path, net: nn.Module, prefix: str = "", model: str | None = None) -> sm.Checkpoint:
    sm.save(path, {prefix + n: t for n, t in net.state_dict().items()}, model=model)
    return sm.load(path)[0]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_number_of_classes_follows_the_checkpoint(tmp_path: Path, prefix: str) -> None:
    found = saved(tmp_path / "a.safetensors", sm.model(f"{SMALL}&num_classes=7"), prefix)
    for like in (found, sm.load(tmp_path / "a.safetensors")):
        net = sm.model(SMALL, like=like)
        assert net.fc.out_features == 7
        assert net.soupmerge_ref == "resnet9?num_classes=7&width=2"
    assert (
        sm.model(f"{SMALL}&num_classes=4", like=found).fc.out_features == 4
    )  # who says it, means it


@pytest.mark.parametrize(
    "other", [sm.model("resnet9?width=3&num_classes=7"), sm.model(f"{HERE}:headless")]
)
def test_a_head_of_another_network_says_nothing(tmp_path: Path, other: nn.Module) -> None:
    assert sm.model(SMALL, like=saved(tmp_path / "a.safetensors", other)).fc.out_features == 10


def test_a_network_without_a_head_is_left_alone(tmp_path: Path) -> None:
    like = saved(tmp_path / "a.safetensors", sm.model(SMALL))
    assert len(sm.model(f"{HERE}:headless", like=like).state_dict()) == 2


@pytest.mark.parametrize(
    ("named", "trusted"),
    [
        (SMALL, True),
        ("digits-cnn?anything=1", True),
        ("timm:test_resnet", True),
        ("timm:test_resnet?num_classes=3&in_chans=1&mean=0&std=1&global_pool=max", True),
        ("timm:test_vit?img_size=96", True),
        ("timm:test_resnet?checkpoint_path=/etc/passwd", False),
        ("timm:test_resnet?num_classes=3&pretrained=true", False),
        (f"{HERE}:linear", False),
        ("os:system", False),
        ("rb:cifar10/Linf/Standard", False),
        ("digits-cnnx", False),
    ],
)
def test_a_file_names_its_network_unless_that_could_run_code(
    tmp_path: Path, named: str, trusted: bool
) -> None:
    found = saved(tmp_path / "a.safetensors", nn.Linear(2, 2), model=named)
    if not trusted:
        with pytest.raises(UnsafeError, match="could run code; if you trust it, name it: --model"):
            sm.model(like=found)
    elif named == "digits-cnn?anything=1":
        with pytest.raises(UsageError, match="cannot be made"):  # by its own signature
            sm.model(like=found)
    else:
        assert sm.model(like=found).soupmerge_ref.partition("?")[0] == named.partition("?")[0]


def test_a_file_that_names_none_says_so(tmp_path: Path) -> None:
    found = saved(tmp_path / "a.safetensors", nn.Linear(2, 2))
    words = r"a.safetensors: the files do not name .*: --model NAME, or model\(NAME"
    with pytest.raises(UsageError, match=words):
        sm.model(like=found)


# ---- one's own, and what cannot be meant


def test_a_module_of_the_working_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_module_here.py").write_text("from torch.nn import Linear as make\n")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    with pytest.raises(UsageError, match="cannot be imported"):
        sm.model("own_module_here:make")
    monkeypatch.chdir(tmp_path)
    assert isinstance(sm.model("own_module_here:make", in_features=1, out_features=2), nn.Linear)


@pytest.mark.parametrize(
    ("ref", "status", "words"),
    [
        ("resnet8", 2, "unknown network 'resnet8'; did you mean 'resnet9'"),
        ("resnet9?widht=3", 2, "unexpected keyword argument 'widht'"),
        ("wrn-28-10?depth=11", 2, "depth 11 is not 6n + 4"),
        ("wrn-28-10?depth=4", 2, "depth 4 is not 6n + 4"),
        ("wrn-28-10?activation=gelu", 2, "'gelu' is none of relu, silu, pssilu"),
        ("convnext-tiny-convstem?size=huge", 2, "'huge' is none of tiny, small, base, large"),
        ("vit-small-convstem?size=large", 2, "'large' is none of small, base"),
        ("xcit-s12?patch=2", 2, "no XCiT of size 's12' and patch 2"),
        ("xcit-s12?size=x12", 2, "no XCiT of size 'x12'"),
        ("timm:resnet19", 2, "timm has no 'resnet19'; did you mean 'resnet"),
        ("timm:test_vit?img_size=32,x", 2, "'32,x' is not a size; give a height"),
        ("no.such.module:net", 2, "cannot be imported"),
        (f"{HERE}:nothing", 2, "cannot be imported"),
        ("1no:net", 2, "unknown network '1no:net'"),
        (":net", 2, "unknown network ':net'"),
        (f"{HERE}:leaves", 2, "cannot be made: SystemExit"),
        (f"{HERE}:seven", 3, "returned a int, not a torch module"),
        (f"{SMALL}&mean=a,b,c", 2, "mean/std: 'a' is not a number"),
        (f"{SMALL}&mean=0.5&std=0", 2, "do not fit"),
        (f"{SMALL}&mean=0.5&std=-1", 2, "one std > 0 per channel"),
        (f"{SMALL}&mean=0.5", 2, "do not fit"),
        (f"{SMALL}&std=0.5", 2, "do not fit"),
        (f"{SMALL}&mean=0.5,0.5&std=1", 2, "do not fit"),
        (f"{SMALL}&mean=0&std=1&constants=mu", 2, "not two names"),
        (f"{SMALL}&constants=mu,sigma", 2, "do not fit"),
        ("rb:cifar10/Linf/Kang2021Stable", 2, "no network for it; give one of your own"),
    ],
)
def test_networks_that_cannot_be_meant(ref: str, status: int, words: str) -> None:
    with pytest.raises(SoupmergeError) as caught:
        sm.model(ref)
    assert (caught.value.exit_status, words in str(caught.value)) == (status, True), caught.value


def test_a_normaliser_works_where_the_images_are_and_as_exactly() -> None:
    hook = Normaliser((0.1,), (0.3,))
    (found,) = hook(nn.Identity(), (torch.empty(2, 1, 3, 3, device="meta"),))
    assert found.device.type == "meta"
    (found,) = hook(nn.Identity(), (torch.tensor([[[[0.7]]]], dtype=torch.float64),))
    assert float(found) == (0.7 - 0.1) / 0.3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_constants_are_finite(value: float) -> None:
    for pair in (((value,), (1.0,)), ((0.0,), (value,))):
        with pytest.raises(UsageError, match="do not fit"):
            Normaliser(*pair)


def test_a_checkpoint_of_another_network_is_told_apart(ingredients: sm.Ingredients) -> None:
    with pytest.raises(InputError, match="does not fit the model: .*problems"):
        sm.bind(sm.model("digits-cnn?width=8"), ingredients[0])


def test_bind_adds_a_wrapper_s_prefix_again() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    state = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    assert sm.bind(Wrapped(), state)(torch.ones(1, 2)).tolist() == [[2.0, 2.0, 2.0]]

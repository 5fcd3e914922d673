"""Networks and images by their written forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UnsafeError

# ---- networks


@pytest.mark.parametrize(
    ("ref", "shape", "parameters"),
    [
        ("digits-cnn", (1, 8, 8), 24_058),
        ("resnet9", (3, 32, 32), 6_573_130),
        ("resnet9?width=16&num_classes=7", (3, 32, 32), 412_567),
        ("resnet18-cifar", (3, 32, 32), 11_173_962),
        ("wrn-28-10?depth=10&widen=1", (3, 32, 32), None),
        ("timm:resnet18?num_classes=10", (3, 64, 64), 11_181_642),
    ],
)
def test_networks_are_what_their_names_say(
    ref: str, shape: tuple[int, ...], parameters: int | None
) -> None:
    random = torch.get_rng_state()
    net = sm.model(ref)
    assert torch.equal(torch.get_rng_state(), random)
    assert not net.training
    assert net(torch.rand(2, *shape)).shape == (2, 7 if "=7" in ref else 10)
    if parameters:
        assert sum(p.numel() for p in net.parameters()) == parameters
    again = sm.model(net.soupmerge_ref)
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in net.state_dict().items())


def test_wrn_28_10_has_the_published_size() -> None:
    with torch.device("meta"):
        from soupmerge.sources.models.wide_resnet import WideResNet

        net = WideResNet()
    assert sum(p.numel() for p in net.parameters()) == 36_479_194
    assert "block1.layer.0.convShortcut.weight" in net.state_dict()


def test_a_normaliser_goes_inside_without_renaming_a_tensor() -> None:
    plain = sm.model("resnet9?width=4")
    inside = sm.model("resnet9?width=4", mean="0.5,0.4,0.3", std="0.2,0.2,0.1")
    assert plain.state_dict().keys() == inside.state_dict().keys()
    x = torch.rand(2, 3, 16, 16)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.1])
    expected = plain((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    for net in (inside, sm.model(inside.soupmerge_ref), sm.bind(inside, plain.state_dict())):
        torch.testing.assert_close(net(x), expected)


def test_a_timm_network_brings_its_normaliser() -> None:
    import timm

    x = torch.rand(1, 3, 64, 64)
    ours = sm.model("timm:resnet18")
    theirs = timm.create_model("resnet18").eval()
    theirs.load_state_dict(ours.state_dict())
    mean, std = (torch.tensor(theirs.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    torch.testing.assert_close(ours(x), theirs((x - mean) / std))


def test_the_number_of_classes_follows_the_checkpoint(tmp_path: Path) -> None:
    sm.save(tmp_path / "a.safetensors", sm.model("resnet9?width=4&num_classes=7").state_dict())
    net = sm.model("resnet9?width=4", like=sm.load(tmp_path / "a.safetensors"))
    assert net(torch.rand(1, 3, 16, 16)).shape == (1, 7)


def own_network(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))


def not_a_network() -> int:
    return 7


def test_a_network_of_one_s_own() -> None:
    assert sm.model("tests.sources.test_sources:own_network?num_classes=5")(
        torch.rand(1, 1, 2, 2)
    ).shape == (1, 5)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("resnet8", "did you mean 'resnet9'"),
        ("resnet9?widht=3", "unexpected keyword argument 'widht'"),
        ("wrn-28-10?depth=11", "not 6n"),
        ("timm:resnet19", "timm has no 'resnet19'; did you mean 'resnet"),
        ("no.such.module:net", "cannot be imported"),
        ("tests.sources.test_sources:nothing", "cannot be imported"),
        ("tests.sources.test_sources:not_a_network", "gave a int"),
        ("resnet9?mean=a,b,c", "is not a number"),
        ("resnet9?mean=0.5&std=0", "do not fit"),
    ],
)
def test_networks_that_cannot_be_meant(ref: str, words: str) -> None:
    with pytest.raises(SoupmergeError, match=words):
        sm.model(ref)


def test_a_checkpoint_of_another_network_is_told_apart(pots: sm.Ingredients) -> None:
    with pytest.raises(InputError, match="does not fit the model: .*problems"):
        sm.bind(sm.model("digits-cnn?width=8"), pots[0])


def test_bind_adds_a_wrapper_s_prefix_again() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    state = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    assert sm.bind(Wrapped(), state)(torch.ones(1, 2)).tolist() == [[2.0, 2.0, 2.0]]


# ---- images


def test_digits_have_three_parts_that_share_nothing() -> None:
    parts = {split: sm.data("digits", split=split) for split in ("train", "val", "test")}
    assert {s: len(p) for s, p in parts.items()} == {"train": 1197, "val": 300, "test": 300}
    ids = [set(p.ids) for p in parts.values()]
    assert len(set.union(*ids)) == 1797
    for part in parts.values():
        assert len(part.labels.unique()) == 10


def test_parts_are_disjoint_mixed_and_stable() -> None:
    head = sm.data("digits", split="train[:1000]")
    tail = sm.data("digits", split="train[1000:]")
    assert (len(head), len(tail)) == (1000, 197)
    assert not set(head.ids) & set(tail.ids)
    assert len(tail.labels.unique()) == 10
    few = sm.data("digits", split="train[1000:]", limit=50)
    assert set(few.ids) <= set(tail.ids)
    assert few.fingerprint() == sm.data("digits", split="train[1000:]", limit=50).fingerprint()
    assert few.fingerprint() != sm.data("digits", split="train[1000:]", limit=51).fingerprint()


def arrays(split: str) -> tuple[Any, Any]:
    return torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 2, 1])


def not_arrays(split: str) -> Any:
    return [1, 2, 3]


def test_npz_and_functions(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", test_x=x, test_y=np.arange(5))
    images = sm.data(f"npz:{tmp_path}/a.npz")
    assert float(images.batch(torch.arange(5))[0].max()) <= 1
    assert len(sm.data("tests.sources.test_sources:arrays")) == 4
    with pytest.raises(InputError, match="gave a list"):
        sm.data("tests.sources.test_sources:not_arrays")


GOOD = np.zeros((4, 1, 2, 2), np.float32)
BAD_ARRAYS: dict[str, tuple[Any, Any, type[SoupmergeError], str]] = {
    "normalised": (GOOD - 1, np.zeros(4, int), InputError, "put mean and std into the model"),
    "0 to 255": (GOOD + 255, np.zeros(4, int), InputError, "divide by 255"),
    "nan": (GOOD * np.nan, np.zeros(4, int), InputError, "not in \\[0, 1\\]"),
    "channels last": (np.zeros((4, 8, 8, 3)), np.zeros(4, int), InputError, "transpose"),
    "no batch axis": (np.zeros((3, 8, 8)), np.zeros(3, int), InputError, "images of shape"),
    "negative label": (GOOD, np.array([0, 1, -1, 2]), InputError, "label -1 of example 2"),
    "float labels": (GOOD, np.zeros(4), InputError, "not integers"),
    "too few labels": (GOOD, np.zeros(3, int), InputError, "4 images, but 3 labels"),
    "no images": (GOOD[:0], np.zeros(0, int), InputError, "no images"),
    "python objects": (GOOD, np.array([0, None, 1, 2]), UnsafeError, "Python objects"),
}


@pytest.mark.parametrize(("x", "y", "kind", "words"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_are_no_images(
    tmp_path: Path, x: Any, y: Any, kind: type[SoupmergeError], words: str
) -> None:
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(kind, match=words) as caught:
        sm.data(f"npz:{tmp_path}/a.npz")
    assert "a.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "split", "limit", "words"),
    [
        ("digit", "test", None, "did you mean 'digits'"),
        ("digits", "tets", None, "no split 'tets'"),
        ("digits", "test[", None, "is not a split"),
        ("digits", "test[300:]", None, "no images"),
        ("digits", "test", 301, "limit 301 is not in 1…300"),
    ],
)
def test_data_that_cannot_be_meant(ref: str, split: str, limit: int | None, words: str) -> None:
    with pytest.raises(SoupmergeError, match=words):
        sm.data(ref, split=split, limit=limit)


@pytest.mark.real
def test_real_images_can_be_read() -> None:
    import os

    images = sm.data("folder:" + os.environ["SOUPMERGE_CIFAR10_FOLDER"], split="test", limit=500)
    assert images.pixels.shape == (500, 3, 32, 32)
    assert images.classes == 10


@pytest.mark.gpu
def test_a_grid_on_a_gpu_gives_the_cpu_s_verdicts(trained: list[Path]) -> None:
    pots = sm.load(*trained)
    benchmark = sm.Benchmark(sm.data("digits", split="val"), [sm.APGD(sm.Linf(0.1), steps=20)])
    for pot in pots:
        net = sm.model(like=pots)
        host, card = (benchmark(sm.bind(net, pot, device=d)) for d in ("cpu", "cuda"))
        differing = (host.right("union") != card.right("union")).sum()
        assert int(differing) <= 3


def test_a_grey_network_of_timm_normalises_its_one_channel() -> None:
    net = sm.model("timm:resnet10t?in_chans=1&num_classes=4").eval()
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 4)

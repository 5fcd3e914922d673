"""timm's weights and configs: networks with their normaliser, classes and size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.sources.hub.timm_configs import network_in
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import NET, Hub, weights

Typed = Callable[..., Outcome]


def config(**more: Any) -> dict[str, Any]:
    found = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "input_size": [3, 64, 64]}
    return {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": found, **more}


def test_weights_of_timm_come_from_its_repository_with_their_normaliser(site: Hub) -> None:
    import safetensors.torch
    import timm

    theirs = timm.create_model("test_resnet", num_classes=7).eval()
    files = {
        "model.safetensors": safetensors.torch.save(theirs.state_dict()),
        "config.json": json.dumps(config()).encode(),
    }
    site.add("timm/test_resnet.r160_in1k", files)
    found = opened("timm:test_resnet.r160_in1k")
    assert opened("timm:test_resnet").ref == found.ref  # its default weights
    ours = sm.bind(sm.model(like=found), found)
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(config()["pretrained_cfg"][k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs((x - mean) / std))


def test_position_embeddings_have_the_size_that_the_config_says(site: Hub) -> None:
    import safetensors.torch
    import timm

    theirs = timm.create_model("test_vit", img_size=96, num_classes=7).eval()
    cfg = {**config()["pretrained_cfg"], "input_size": [3, 96, 96], "fixed_input_size": True}
    result = config(architecture="test_vit", pretrained_cfg=cfg)
    files = {"config.json": json.dumps(result).encode()}
    site.add("me/vit", files | {"model.safetensors": safetensors.torch.save(theirs.state_dict())})
    found = opened("hf-hub:me/vit")
    assert "img_size=96" in str(found.model)
    net = sm.bind(sm.model(like=found), found)
    assert net(torch.rand(1, 3, 96, 96)).shape == (1, 7)


R, V = {"architecture": "resnet18"}, {"architecture": "vit"}
MOST = {"num_classes": 10**6, "in_chans": 1024, "img_size": 4096}
NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "a name": (R, "timm:resnet18"),
    "a normaliser": (config(), "timm:test_resnet?mean=0.5,0.4,0.3&num_classes=7&std=0.2,0.2,0.1"),
    "classes": ({**R, "num_classes": 2}, "timm:resnet18?num_classes=2"),
    "classes in the weights' own part": (
        {**R, "pretrained_cfg": {"num_classes": 4}},
        "timm:resnet18?num_classes=4",
    ),
    "arguments before that": (
        {**R, "num_classes": 2, "model_args": {"num_classes": 3}},
        "timm:resnet18?num_classes=3",
    ),
    "an older form, all in one": (
        {**R, "mean": [0, 0.5], "std": 1, "input_size": [1, 8, 8]},
        "timm:resnet18?in_chans=1&mean=0.0,0.5&std=1.0",
    ),
    "three channels go without saying": (
        {**R, "model_args": {"in_chans": 3, "img_size": None}},
        "timm:resnet18",
    ),
    "other channels": (
        config(model_args={"in_chans": 1, "global_pool": "max"}, pretrained_cfg={}),
        "timm:test_resnet?global_pool=max&in_chans=1&num_classes=7",
    ),
    "a size that is fixed": (
        {**V, "input_size": [3, 96, 96], "fixed_input_size": True},
        "timm:vit?img_size=96",
    ),
    "a height and a width": (
        {**V, "input_size": [3, 64, 96], "fixed_input_size": True},
        "timm:vit?img_size=64,96",
    ),
    "a size that is not": ({**V, "input_size": [3, 96, 96]}, "timm:vit"),
    "the largest": (
        {
            "architecture": "vit",
            "model_args": MOST,
        },
        "timm:vit?img_size=4096&in_chans=1024&num_classes=1000000",
    ),
    "the smallest": ({"architecture": "v", "num_classes": 1}, "timm:v?num_classes=1"),
    "most channels": (
        {"architecture": "v", "mean": [0] * 1024},
        "timm:v?mean=" + ",".join(["0.0"] * 1024),
    ),
}
UNNAMED: dict[str, dict[str, Any]] = {
    "a module": {"architecture": "os:system"},
    "a query": {"architecture": "resnet18?checkpoint_path=x"},
    "capitals": {"architecture": "ResNet"},
    "no text": {"architecture": 3},
    "a path": config(model_args={"checkpoint_path": "/etc/passwd"}),
    "a size of gigabytes": config(model_args={"img_size": 4097}),
    "too many classes": config(num_classes=10**6 + 1),
    "too many channels": config(model_args={"in_chans": 1025}),
    "no classes": config(num_classes=0),
    "yes for a number": config(num_classes=True),
    "half a class": config(num_classes=1.5),
    "no sizes": config(model_args={"img_size": []}),
    "a list of arguments": config(model_args=[1]),
    "a query in a number": config(num_classes="7&checkpoint_path=x"),
    "a list of constants": config(pretrained_cfg=[1]),
    "constants of words": config(pretrained_cfg={"mean": ["x"]}),
    "constants that are none": config(pretrained_cfg={"mean": [float("nan")]}),
    "constants without end": config(pretrained_cfg={"std": [float("inf")]}),
    "too many constants": config(pretrained_cfg={"mean": [0] * 1025}),
    "a pooling of numbers": config(model_args={"global_pool": "max2"}),
    "a long pooling": config(model_args={"global_pool": "a" * 21}),
    "a size of words": config(pretrained_cfg={"input_size": ["x"]}),
}


def network_of(expected: Any, home: Path) -> tuple[str | None, str | None]:
    (home / "config.json").write_text(json.dumps(expected))
    return network_in(home / "config.json")


@pytest.mark.parametrize("name", NAMED)
def test_a_config_names_its_network(tmp_path: Path, name: str) -> None:
    found, form = NAMED[name]
    assert network_of(found, tmp_path) == (form, None)


@pytest.mark.parametrize("name", UNNAMED)
def test_a_config_that_asks_for_more_names_none_and_why(tmp_path: Path, name: str) -> None:
    form, doubt = network_of(UNNAMED[name], tmp_path)
    assert form is None
    assert "names a network that only --model can make" in str(doubt)


@pytest.mark.parametrize("expected", [{}, [], {"model_type": "bert"}])
def test_a_config_of_another_library_says_nothing(tmp_path: Path, expected: Any) -> None:
    assert network_of(expected, tmp_path) == (None, None)


def test_a_config_that_cannot_be_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    form, doubt = network_in(tmp_path / "config.json")
    assert (form, str(doubt).startswith("config.json names no network: ")) == (None, True)


def test_a_doubt_about_the_network_is_noted_unless_the_weights_name_it(site: Hub) -> None:
    odd = {"config.json": json.dumps({"architecture": "os:system"}).encode()}
    site.add("me/unnamed", {"model.safetensors": weights(model=None), **odd})
    site.add("me/named", {"model.safetensors": weights(), **odd})
    unnamed, named = (opened(f"hf-hub:me/{name}") for name in ("unnamed", "named"))
    assert unnamed.model is None
    assert any("only --model" in note for note in unnamed.notes)
    assert named.model == NET
    assert not any("only --model" in note for note in named.notes)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("timm:resnt18", "did you mean"),
        ("timm:resnet18.nope", "resnet18."),
        ("timm:resnet18?num_classes=3", "--model"),
    ],
)
def test_weights_that_timm_has_not(site: Hub, ref: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        opened(ref)


def test_weights_that_are_not_on_the_hub(site: Hub) -> None:
    from timm.models import get_pretrained_cfg, list_models

    name = next(n for n in list_models() if not get_pretrained_cfg(n).hf_hub_id)
    with pytest.raises(InputError, match="no weights for it on the Hub"):
        opened(f"timm:{name}")
    assert not site.asked

"""timm's weights and configs: networks with their normaliser, classes and size."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.sources.hub.timm_configs import written
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import Hub, weights

Typed = Callable[..., Outcome]


def config(**more: Any) -> dict[str, Any]:
    told = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "input_size": [3, 64, 64]}
    return {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": told, **more}


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
    told = config(architecture="test_vit", pretrained_cfg=cfg)
    files = {"config.json": json.dumps(told).encode()}
    site.add("me/vit", files | {"model.safetensors": safetensors.torch.save(theirs.state_dict())})
    found = opened("hf-hub:me/vit")
    assert "img_size=96" in str(found.model)
    net = sm.bind(sm.model(like=found), found)
    assert net(torch.rand(1, 3, 96, 96)).shape == (1, 7)


@pytest.mark.parametrize(
    ("told", "form"),
    [
        (config(), "timm:test_resnet?mean=0.5,0.4,0.3&num_classes=7&std=0.2,0.2,0.1"),
        ({"architecture": "resnet18", "num_classes": 2}, "timm:resnet18?num_classes=2"),
        (
            {"architecture": "resnet18", "model_args": {"in_chans": 1, "global_pool": "max"}},
            "timm:resnet18?global_pool=max&in_chans=1",
        ),
        ({"architecture": "os:system"}, None),
        ({"architecture": "resnet18?checkpoint_path=x"}, None),
        (config(model_args={"checkpoint_path": "/etc/passwd"}), None),
        (config(model_args={"img_size": 10**9}), None),
        (config(model_args=[1]), None),
        (config(num_classes="7&checkpoint_path=x"), None),
        (config(pretrained_cfg=[1]), None),
        (config(pretrained_cfg={"mean": ["x"]}), None),
        (config(pretrained_cfg={"mean": [float("nan")]}), None),
    ],
)
def test_a_config_names_a_network_or_nothing(
    site: Hub, told: dict[str, Any], form: str | None
) -> None:
    if form:
        assert written(told) == form
    site.add(
        "me/net",
        {"model.safetensors": weights(model=None), "config.json": json.dumps(told).encode()},
    )
    found = opened("hf-hub:me/net")
    assert found.model == form
    assert any("--model" in note for note in found.notes) == (form is None)


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

"""What others compute and read: torch's averages, mergekit, safetensors, timm, the Hub's loader."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import soupmerge as sm
from soupmerge.weights.saving import mix_to_file
from tests.shared import near

MERGEKIT = "SOUPMERGE_MERGEKIT"
"""The environment variable that names mergekit's `mergekit-pytorch`; 0.1.5 is known to agree."""

ROW = [0.6, 0.3, 0.1]


def written(ingredients: sm.Ingredients, out: Path, shard_bytes: int | None = None) -> Path:
    mix_to_file(out, ingredients, sm.Recipe.of(ingredients, ROW), shard_bytes=shard_bytes)
    return out


def weighted(
    ingredients: sm.Ingredients,
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Return the soup of *ingredients* by `ROW`, read and summed without soupmerge."""
    states = [safetensors.numpy.load_file(ingredient.ref) for ingredient in ingredients]
    sums = {
        n: sum(w * s[n].astype(float) for w, s in zip(ROW, states, strict=True))
        for n in ingredients[0]
    }
    return {
        n: np.asarray(sums[n] if t.dtype.kind == "f" else t, t.dtype) for n, t in states[0].items()
    }


# ---- averages


def test_statistics_agree_with_torch_s_averaged_model(
    ingredients: sm.Ingredients, net: nn.Module
) -> None:
    averaged = AveragedModel(net, use_buffers=True)
    for ingredient in ingredients:
        averaged.update_parameters(sm.bind(net, ingredient))
    soup = sm.mix(ingredients, sm.Recipe.uniform(ingredients))
    expected = averaged.module.state_dict()
    assert any(name.endswith("running_var") for name in soup)
    for name in (n for n in soup if soup[n].is_floating_point()):
        torch.testing.assert_close(soup[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_moving_average_is_a_soup(ingredients: sm.Ingredients, net: nn.Module) -> None:
    decay = 0.75
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for ingredient in ingredients:
        averaged.update_parameters(sm.bind(net, ingredient))
    row = [decay**2, decay * (1 - decay), 1 - decay]
    soup = sm.mix(ingredients, sm.Recipe.of(ingredients, row))
    for name, tensor in averaged.module.named_parameters():
        torch.testing.assert_close(soup[name], tensor.detach(), rtol=1e-5, atol=1e-6)


def test_a_step_between_two_is_torch_s_lerp(ingredients: sm.Ingredients) -> None:
    two = sm.load(ingredients[0].ref, ingredients[1].ref)
    soup = sm.mix(two, sm.Recipe.of(two, [-0.5, 1.5], affine=True, buffers="base"))
    for name in two.mixed:
        expected = torch.lerp(two[0][name].double(), two[1][name].double(), 1.5)
        torch.testing.assert_close(soup[name], expected.float(), rtol=1.2e-7, atol=1e-12)


@pytest.mark.skipif(MERGEKIT not in os.environ, reason=f"needs mergekit: set {MERGEKIT}")
def test_mergekit_s_linear_soup_is_the_same(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    # It refuses counters that differ, so there are none; and it names a file by its path.
    states = [
        {n: ingredient[n] for n in ingredient if ingredient[n].is_floating_point()}
        for ingredient in ingredients
    ]
    paths = [tmp_path / f"floats{k}.safetensors" for k in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        safetensors.torch.save_file(state, path)
    ingredients, shares = sm.load(*paths), zip(paths, ROW, strict=True)
    entries = [f"  - {{model: {path}, parameters: {{weight: {w!r}}}}}\n" for path, w in shares]
    config = tmp_path / "linear.yml"
    config.write_text("merge_method: linear\ndtype: float32\nmodels:\n" + "".join(entries))
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [os.environ[MERGEKIT], str(config), str(tmp_path / "theirs")]
    subprocess.run(words, check=True, capture_output=True, timeout=300, env=offline)
    theirs = safetensors.torch.load_file(tmp_path / "theirs" / "model.safetensors")
    ours = sm.mix(ingredients, sm.Recipe.of(ingredients, ROW))
    assert theirs.keys() == ours.keys()
    for name in ours:
        # They add in float32: each of three products and two sums is rounded.
        largest = torch.stack([ingredient[name].abs() for ingredient in ingredients]).amax(0)
        room = 4 * torch.finfo(torch.float32).eps * largest
        assert bool(((ours[name] - theirs[name]).abs() <= room).all()), name


# ---- readers


def test_a_written_soup_is_plain_safetensors(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    out = written(ingredients, tmp_path / "soup.safetensors")
    expected = weighted(ingredients)
    found, tensors = safetensors.numpy.load_file(out), safetensors.torch.load_file(out)
    assert found.keys() == tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(tensors[name].numpy(), array)
    with safetensors.safe_open(out, framework="pt") as file:
        assert file.metadata()["format"] == "pt"  # transformers refuses files without it


def test_a_written_soup_is_a_state_dict_for_torch(
    ingredients: sm.Ingredients, net: nn.Module, tmp_path: Path
) -> None:
    out = written(ingredients, tmp_path / "soup.safetensors")
    torch.save(safetensors.torch.load_file(out), tmp_path / "soup.pt")
    state = torch.load(tmp_path / "soup.pt", weights_only=True)
    assert net.load_state_dict(state, strict=True).missing_keys == []
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = sm.bind(net, sm.mix(ingredients, sm.Recipe.of(ingredients, ROW)))
    torch.testing.assert_close(net.eval()(x), expected(x), rtol=1e-4, atol=1e-6)


def test_each_shard_holds_what_the_index_says(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    folder = written(ingredients, tmp_path / "soup", shard_bytes=3000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    homes, expected = index["weight_map"], weighted(ingredients)
    assert homes.keys() == expected.keys()
    assert len(set(homes.values())) > 2
    assert set(homes.values()) == {f.name for f in folder.glob("*.safetensors")}
    for name, shard in homes.items():
        with safetensors.safe_open(folder / shard, framework="np") as file:
            np.testing.assert_array_equal(file.get_tensor(name), expected[name])
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in expected.values())


def test_the_hub_s_loader_takes_shards(
    ingredients: sm.Ingredients, net: nn.Module, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder = written(ingredients, tmp_path / "soup", shard_bytes=3000)
    loaded = hub.load_torch_model(net, folder, strict=True)
    assert not loaded.missing_keys
    assert not loaded.unexpected_keys
    expected = weighted(ingredients)
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), expected[name])
    one = written(ingredients, tmp_path / "soup.safetensors")
    assert hub.load_state_dict_from_file(one).keys() == expected.keys()


def test_shards_that_the_hub_s_writer_made_are_read(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "theirs").mkdir()
    hub.save_torch_state_dict(dict(ingredients[0]), tmp_path / "theirs", max_shard_size=3000)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    loaded = sm.load(tmp_path / "theirs")[0]
    assert loaded.keys() == ingredients[0].keys()
    assert all(torch.equal(loaded[name], ingredients[0][name]) for name in loaded)


def test_timm_takes_a_soup_as_a_checkpoint(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network, paths = "timm:test_resnet?num_classes=10", []
    for seed in (1, 2, 3):
        paths.append(tmp_path / f"{seed}.safetensors")
        torch.manual_seed(0)
        sm.save(
            paths[-1], near(timm.create_model("test_resnet", num_classes=10), seed), model=network
        )
    ingredients = sm.load(*paths)
    out = written(ingredients, tmp_path / "soup.safetensors")
    net = timm.create_model("test_resnet", num_classes=10, checkpoint_path=str(out)).eval()
    expected = weighted(ingredients)
    assert net.state_dict().keys() == expected.keys()
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), expected[name])
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    soup = sm.bind(net, sm.mix(ingredients, sm.Recipe.of(ingredients, ROW)))
    torch.testing.assert_close(net(x), soup(x), rtol=1e-4, atol=1e-6)

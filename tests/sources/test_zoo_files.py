"""Files of RobustBench's zoo as they are published: their names, pins and origin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, NetworkError, UnsafeError
from soupmerge.sources import cache, downloads
from soupmerge.sources.refs import opened
from soupmerge.sources.robustbench import files, zoo
from soupmerge.weights.lineage import family_of
from tests.shared import Outcome
from tests.sources.own import SmallA4

Typed = Callable[..., Outcome]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like RobustBench's, and no way to the network."""
    monkeypatch.setenv(files.MODELS, str(tmp_path / "models"))
    monkeypatch.setenv(cache.HOME, str(tmp_path / "home"))
    monkeypatch.setenv("SOUPMERGE_OFFLINE", "1")
    return tmp_path / "models"


def put(models: Path, name: str, value: Any) -> Path:
    path = models / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def weights(seed: int = 0, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"conv1.weight": torch.randn(4, 3, 3, 3, generator=generator), **more}


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


STANDARD = "cifar10/Linf/Standard"
WANG = "cifar10/Linf/Wang2023Better_WRN-28-10"
XU = "cifar10/Linf/Xu2023Exploring_WRN-28-10"
RICE = "cifar10/L2/Rice2020Overfitting"


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        (STANDARD, weights()),
        (STANDARD, {"state_dict": prefixed("module.", weights()), "epoch": 3}),
        (STANDARD, {"state_dict": prefixed("module.model.", weights())}),
        (STANDARD, {"state_dict": weights(), "ema": weights(1)}),
        ("cifar10/Linf/Andriushchenko2020Understanding", {"last": weights(), "best": weights(1)}),
        ("cifar10/Linf/Pang2020Boosting", weights(**{"model_preact_hl1.1.weight": torch.ones(2)})),
    ],
)
def test_files_as_they_are_published(models: Path, name: str, wrapped: Any) -> None:
    path = put(models, name, wrapped)
    checkpoint = sm.load(f"rb:{name}")[0]
    assert checkpoint.files == (path,)
    assert checkpoint.ref == f"rb:{name}"
    assert checkpoint.model == zoo.entries()[name].network
    assert checkpoint.notes_of_soupmerge["licence"] == zoo.entries()[name].licence
    aside = [note for note in checkpoint.notes if "ignored model_preact_hl1.1.weight" in note]
    assert len(aside) == ("Pang" in name)
    constants = {"mu", "sigma"} if "Pang" in name else set()
    assert set(checkpoint) == {"conv1.weight"} | constants
    assert torch.equal(checkpoint["conv1.weight"], weights()["conv1.weight"])


CIFAR_MEAN, CIFAR_STD = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]


@pytest.mark.parametrize(
    ("name", "shape"),
    [(RICE, (1, 3, 1, 1)), ("cifar10/Linf/Huang2022Revisiting_WRN-A4", (3, 1, 1))],
)
def test_constants_that_a_file_leaves_out_are_added(
    models: Path, name: str, shape: tuple[int, ...]
) -> None:
    put(models, name, weights())
    checkpoint = sm.load(f"rb:{name}")[0]
    assert checkpoint["mu"].flatten().tolist() == pytest.approx(CIFAR_MEAN)
    assert checkpoint["sigma"].flatten().tolist() == pytest.approx(CIFAR_STD)
    assert checkpoint["mu"].shape == checkpoint["sigma"].shape == shape
    assert any("added mu and sigma" in note for note in checkpoint.notes)
    assert list(checkpoint) == ["conv1.weight", "mu", "sigma"]
    put(models, name, weights(mu=torch.full(shape, 0.1)))
    half = sm.load(f"rb:{name}")[0]
    assert half["mu"].flatten().tolist() == pytest.approx([0.1] * 3)
    assert any("added sigma from" in note for note in half.notes)
    put(models, name, weights(mu=torch.zeros(shape), sigma=torch.ones(shape)))
    assert not any("added" in note for note in sm.load(f"rb:{name}")[0].notes)


def test_wrn_a4_has_the_same_constants_as_its_files() -> None:
    net = SmallA4()
    assert net.get_buffer("mu").flatten().tolist() == pytest.approx(CIFAR_MEAN)
    assert net.get_buffer("sigma").flatten().tolist() == pytest.approx(CIFAR_STD)


@pytest.mark.parametrize("wrapper", ["normalize.", "normalizer."])
@pytest.mark.parametrize(("off", "known"), [(0, True), (9e-5, True), (1.1e-4, False)])
def test_a_normaliser_in_front_is_taken_off_if_it_is_the_stated_one(
    models: Path, wrapper: str, off: float, known: bool
) -> None:
    mean, std = torch.tensor(CIFAR_MEAN), torch.tensor(CIFAR_STD)
    std[1] += off
    constants = {f"{wrapper}mean": mean, f"{wrapper}std": std}
    put(models, RICE, {**constants, **prefixed("model.", weights())})
    if known:
        found = sm.load(f"rb:{RICE}")[0]
        assert set(found) == {"conv1.weight", "mu", "sigma"}
        assert any("removed the wrapping normaliser" in note for note in found.notes)
    else:
        with pytest.raises(InputError, match=f"rb:{RICE}: its normaliser has .*--model"):
            sm.load(f"rb:{RICE}")


def test_a_normaliser_of_other_constants_than_stated_is_refused(models: Path) -> None:
    for names, value in ((["mean"], torch.tensor(CIFAR_MEAN)), (["mean", "std"], torch.ones(1))):
        constants = {f"normalize.{name}": value for name in names}
        put(models, RICE, {**constants, **prefixed("model.", weights())})
        with pytest.raises(InputError, match="normaliser has"):
            sm.load(f"rb:{RICE}")


def test_a_normaliser_that_wraps_nothing_is_left(models: Path) -> None:
    put(models, STANDARD, weights(**{"normalize.mean": torch.zeros(3)}))
    assert set(sm.load(f"rb:{STANDARD}")[0]) == {"conv1.weight", "normalize.mean"}


def test_swin_of_older_timm_has_today_s_names(models: Path) -> None:
    import timm

    with torch.device("meta"):
        now = timm.create_model("swin_base_patch4_window7_224").state_dict()
    old = {
        "layers.0.downsample.reduction.weight": "layers.1.downsample.reduction.weight",
        "layers.2.downsample.norm.bias": "layers.3.downsample.norm.bias",
        "head.weight": "head.fc.weight",
        "layers.0.blocks.0.attn.relative_position_bias_table": None,
        "layers.0.blocks.0.attn.relative_position_index": "",
    }
    name = "imagenet/Linf/Liu2023Comprehensive_Swin-B"
    put(models, name, {key: torch.ones(2) for key in old})
    found = set(sm.load(f"rb:{name}")[0])
    assert found == {key if new is None else new for key, new in old.items() if new != ""}
    assert found <= set(now)


def test_a_file_is_looked_for_in_robustbench_s_folder_first_and_as_a_pickle_first(
    models: Path, tmp_path: Path
) -> None:
    """A converted file stands for its pickle, and has no state dicts to choose from."""
    name = "cifar10/Linf/Andriushchenko2020Understanding"
    pulled = tmp_path / "home" / "robustbench"
    for root in (pulled, models):
        (root / "cifar10" / "Linf").mkdir(parents=True)
        for suffix in (".safetensors", ".pt"):
            if suffix == ".pt":
                put(root, name, {"last": weights(), "best": weights(1)})
            else:
                sm.save(root / f"{name}{suffix}", weights())
            found = sm.load(f"rb:{name}")[0]
            assert found.files == (root / f"{name}{suffix}",)
            assert torch.equal(found["conv1.weight"], weights()["conv1.weight"])


def test_the_reader_s_key_comes_before_the_entry_s(models: Path) -> None:
    name = "cifar10/Linf/Andriushchenko2020Understanding"
    put(models, name, {"last": weights(), "best": weights(1)})
    found = sm.load(f"rb:{name}", weights_key="best")[0]
    assert torch.equal(found["conv1.weight"], weights(1)["conv1.weight"])
    put(models, STANDARD, {"net": weights(), "ema": weights(1)})
    with pytest.raises(InputError, match="several state dicts"):
        sm.load(f"rb:{STANDARD}")


def test_numbers_of_a_pickle_that_names_code_can_be_had(models: Path) -> None:
    wrapped = {"net": weights()}, {"state_dict": weights(), "ema": weights(1)}
    for value in ({**states, "args": Path("x")} for states in wrapped):
        put(models, STANDARD, value)
        with pytest.raises(UnsafeError):
            opened(f"rb:{STANDARD}")
        assert set(opened(f"rb:{STANDARD}", foreign=True)) == {"conv1.weight"}


def test_code_in_a_pickle_is_refused(models: Path, soupmerge: Typed) -> None:
    put(models, STANDARD, {"state_dict": weights(), "args": Path("x")})
    result = soupmerge("inspect", f"rb:{STANDARD}")
    assert result.status == 4
    assert "soupmerge convert" in result.err


def test_what_is_not_here_is_an_error_that_names_the_file(models: Path, soupmerge: Typed) -> None:
    result = soupmerge("inspect", f"rb:{WANG}")
    assert result.status == 6
    assert str(models / f"{WANG}.pt") in result.err


# ---- pulling


@pytest.fixture
def site(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is what every address gives."""
    monkeypatch.delenv("SOUPMERGE_OFFLINE")
    monkeypatch.delenv(files.MODELS)
    monkeypatch.chdir(tmp_path)
    given = put(tmp_path, "site", weights())

    def download(address: str, target: Path, *, sha256: str, **_: Any) -> str:
        assert address.startswith("https://drive.usercontent.google.com/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(given.read_bytes())
        found = sm.load(given)[0].sha256
        if not found.startswith(sha256):
            target.unlink()
            raise UnsafeError("another file")
        return found

    monkeypatch.setattr(downloads, "download", download)
    return given


def test_a_folder_that_is_named_is_where_files_go(
    site: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.MODELS, str(models))
    with pytest.warns(UserWarning, match=f"downloading it to {models}"):
        assert sm.load(f"rb:{STANDARD}")[0].files == (models / f"{STANDARD}.pt",)


def test_files_go_to_a_cache_where_nothing_is_named(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cache.HOME)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    put(tmp_path / "models", WANG, weights())  # RobustBench's own folder, where one stands
    assert sm.load(f"rb:{WANG}")[0].files == (Path("models") / f"{WANG}.pt",)
    with pytest.warns(UserWarning, match="downloading"):
        found = sm.load(f"rb:{STANDARD}")[0]
    assert found.files == (tmp_path / "user/.cache/soupmerge/robustbench" / f"{STANDARD}.pt",)


def test_a_pulled_file_is_pinned(site: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is missing: downloading it"):
        first = sm.load(f"rb:{STANDARD}")[0]
    path = tmp_path / "home" / "robustbench" / f"{STANDARD}.pt"
    assert first.files == (path,)
    pin = path.with_name("Standard.pt.sha256")
    assert pin.read_text() == f"{first.sha256}  Standard.pt\n"
    assert sm.load(f"rb:{STANDARD}")[0].sha256 == first.sha256

    torch.save(weights(1), path)  # somebody else's
    with pytest.raises(UnsafeError, match="is not the file that was pulled: sha256") as caught:
        sm.load(f"rb:{STANDARD}")
    assert f"pinned {first.sha256}; remove it" in str(caught.value)
    assert "or Standard.pt.sha256 if" in str(caught.value)
    path.unlink()
    torch.save(weights(1), site)  # the site's is another one now
    with pytest.warns(match="downloading"), pytest.raises(UnsafeError, match="another file"):
        sm.load(f"rb:{STANDARD}")
    assert pin.read_text().startswith(first.sha256)
    pin.unlink()
    with pytest.warns(UserWarning, match="downloading"):
        now = sm.load(f"rb:{STANDARD}")[0].sha256
    assert pin.read_text() == f"{now}  Standard.pt\n"


def test_a_hash_in_a_name_is_held_to(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.delenv("SOUPMERGE_OFFLINE")
    found: dict[str, str] = {}

    def download(address: str, target: Path, *, sha256: str, **_: Any) -> str:
        found.update(address=address, sha256=sha256)
        raise NetworkError("no")

    monkeypatch.setattr(downloads, "download", download)
    with pytest.warns(UserWarning, match="downloading"), pytest.raises(NetworkError):
        sm.load("rb:imagenet/Linf/Standard_R50")
    assert re.fullmatch(r"[0-9a-f]{8}", found["sha256"])
    assert found["address"].endswith(f"-{found['sha256']}.pth")
    with pytest.warns(UserWarning, match="downloading"), pytest.raises(NetworkError):
        sm.load(f"rb:{STANDARD}")
    assert found["sha256"] == ""


def test_a_pull_shows_its_progress(
    models: Path, soupmerge: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOUPMERGE_OFFLINE")
    calls: list[Any] = []

    def download(*_: Any, progress: Any, **__: Any) -> str:
        calls.append(progress)
        raise NetworkError("no")

    monkeypatch.setattr(downloads, "download", download)
    assert soupmerge("pull", f"rb:{STANDARD}").status == 6
    assert calls[0] is not None


# ---- origin


@pytest.mark.parametrize(
    ("name", "run", "detail"),
    [
        (WANG, WANG, "threat linf:8/255"),
        (RICE, RICE, "threat l2:0.5"),
        (STANDARD, STANDARD, ""),  # trained against nothing, though it is judged under Linf
        ("cifar10/L2/Standard", STANDARD, ""),
        ("cifar10/corruptions/Hendrycks2020AugMix_WRN", None, ""),
        ("cifar10/Linf/Sehwag2020Hydra", None, ""),
    ],
)
def test_an_entry_s_family_is_its_run(
    models: Path, name: str, run: str | None, detail: str
) -> None:
    put(models, name, weights())
    tree = family_of(sm.load(f"rb:{name}")[0])
    assert (tree.ref, tree.made, tree.detail) == (f"rb:{name}", "train" if run else "", detail)
    parents = [(f"the run of rb:{run}", "from scratch", "")] if run else []
    assert [(p.ref, p.made, p.sha256) for p in tree.parents] == parents


def test_what_a_file_says_of_itself_comes_before_the_table(models: Path) -> None:
    (models / "cifar10" / "Linf").mkdir(parents=True)
    sm.save(
        models / f"{STANDARD}.safetensors", weights(), notes={"licence": "own"}, model="digits-cnn"
    )
    found = sm.load(f"rb:{STANDARD}")[0]
    assert (found.notes_of_soupmerge["licence"], found.model) == ("own", "digits-cnn")


def test_an_entry_without_a_network_names_none(models: Path) -> None:
    put(models, "cifar10/Linf/Kang2021Stable", weights())
    assert sm.load("rb:cifar10/Linf/Kang2021Stable")[0].model is None


def test_networks_trained_apart_are_known_before_anything_is_measured(
    models: Path, soupmerge: Typed, tmp_path: Path
) -> None:
    put(models, WANG, weights(0))
    put(models, XU, weights(1))
    with pytest.warns(UserWarning, match="trained apart, from scratch"):
        ingredients = sm.load(f"rb:{WANG}", f"rb:{XU}")
    assert ingredients.model is not None
    assert ingredients.model.startswith("dm-wrn-28-10?")
    result = soupmerge("check", f"rb:{WANG}", f"rb:{XU}")
    assert result.status == 1
    assert "separate" in result.out
    parsed = json.loads(soupmerge("check", f"rb:{WANG}", f"rb:{XU}", "--json").out)
    assert parsed["basin"]["verdict"] == "separate"
    assert "trained apart" in parsed["basin"]["reasons"][0]

    soup = tmp_path / "soup.safetensors"
    mixed = soupmerge("mix", f"rb:{WANG}", f"rb:{XU}", "-w", "0.5,0.5", "-o", soup)
    assert mixed.status == 0
    assert "trained apart" in mixed.err
    written = sm.load(soup)[0]
    assert written.model == ingredients.model
    assert family_of(written).roots() == {f"the run of rb:{WANG}", f"the run of rb:{XU}"}
    # The soup descends from both: nothing speaks against mixing it with one of them.
    assert soupmerge("check", soup, f"rb:{XU}").status == 0


def test_one_run_is_not_two(models: Path, soupmerge: Typed) -> None:
    one, ema = (f"cifar10/Linf/Huang2021Exploring{end}" for end in ("", "_ema"))
    put(models, one, weights(0))
    put(models, ema, weights(1))
    result = soupmerge("check", f"rb:{one}", f"rb:{ema}")
    assert result.status == 0
    assert f"all descend from the run of rb:{one}" in result.out


def test_of_unknown_origin_nothing_is_said(models: Path, soupmerge: Typed) -> None:
    hydra, carmon = "cifar10/Linf/Sehwag2020Hydra", "cifar10/Linf/Carmon2019Unlabeled"
    put(models, hydra, weights(0))
    put(models, carmon, weights(1))
    result = soupmerge("check", f"rb:{hydra}", f"rb:{carmon}")
    assert result.status == 0
    assert "unknown: not measured" in result.out


def test_networks_that_differ_in_what_no_tensor_tells_do_not_fit(
    models: Path, soupmerge: Typed
) -> None:
    put(models, STANDARD, weights(0))
    other = "cifar10/Linf/Hendrycks2019Using"
    put(models, other, weights(1))
    with pytest.raises(InputError, match="is for the network"):
        sm.load(f"rb:{STANDARD}", f"rb:{other}")
    assert soupmerge("check", f"rb:{STANDARD}", f"rb:{other}").status == 1


def test_a_stranger_s_notes_do_not_pass_for_a_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        notes = {"training": {}, "family": [{"ref": name, "made": "from scratch"}]}
        sm.save(tmp_path / f"{name}.safetensors", weights(), notes=notes)
    sm.load(tmp_path / "a.safetensors")
    tree = family_of(sm.load(tmp_path / "b.safetensors")[0])
    assert tree.roots() == {"?"}


# ---- the whole way


def test_from_a_published_file_to_logits(models: Path) -> None:
    name = "cifar10/corruptions/Hendrycks2020AugMix_WRN"
    entry = zoo.entries()[name]
    net = sm.model(entry.ref)
    state = {n: t for n, t in net.state_dict().items() if n not in ("mu", "sigma")}
    put(models, name, {"state_dict": prefixed("module.", state)})
    ingredients = sm.load(entry.ref)
    again: nn.Module = sm.model(like=ingredients)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(sm.bind(again, ingredients[0])(x), net(x))


def test_opening_and_mixing_need_no_torch() -> None:
    code = "import sys, soupmerge.sources.robustbench.checkpoints; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""RobustBench's zoo: what is listed, its networks, its files, and what is known of their origin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import soupmerge as sm
from soupmerge.errors import InputError, NetworkError, UnsafeError, UsageError
from soupmerge.sources import downloads
from soupmerge.sources.models.activations import PSSiLU
from soupmerge.sources.models.dm_wide_resnet import MeanSparse
from soupmerge.sources.robustbench import keeping, zoo
from soupmerge.weights.lineage import family_of
from tests.sources import robustbench_peer

Typed = Callable[..., Any]
PEERS: dict[str, str | None] = json.loads(robustbench_peer.SHAPES.read_text())

# ---- what is listed


def test_every_entry_of_robustbench_is_listed() -> None:
    parts = {name.rpartition("_m")[0] for name in zoo.entries() if name not in PEERS}
    assert set(PEERS) == {name for name in zoo.entries() if name in PEERS} | parts
    assert len(PEERS) == 206


def test_listing_needs_neither_torch_nor_a_network() -> None:
    code = (
        "import sys, socket; socket.socket = None\n"
        "from soupmerge.cli import main\n"
        "status = main.run(['pull', '--list', 'rb'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(zoo.entries())


def test_a_part_is_listed_by_its_beginning(soupmerge: Typed) -> None:
    result = soupmerge("pull", "--list", "rb:cifar100/Linf", "--json")
    told = json.loads(result.out)
    assert {entry["name"].rpartition("/")[0] for entry in told} == {"cifar100/Linf"}
    wrong = soupmerge("pull", "--list", "rb:cifar100/L2")
    assert wrong.status == 2
    assert "did you mean" in wrong.err
    assert soupmerge("pull", "--list", "zoo").status == 2


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("rb:cifar10/Linf/Wang2023Better_WRN-28-1", "rb:cifar10/Linf/Wang2023Better_WRN-28-10"),
        ("rb:wang2023better_wrn-70-16", "rb:cifar10/L2/Wang2023Better_WRN-70-16"),
        ("rb:cifar10/Linf/Chen2020Adversarial", "rb:cifar10/Linf/Chen2020Adversarial_m0"),
        ("rb:nothing", "soupmerge pull --list rb"),
        ("rb:", "soupmerge pull --list rb"),
    ],
)
def test_near_misses(soupmerge: Typed, ref: str, said: str) -> None:
    result = soupmerge("inspect", ref)
    assert result.status == 2
    assert said in result.err


def test_addresses_are_https() -> None:
    for entry in zoo.entries().values():
        downloads._require_lawful(keeping.address_of(entry), "https://")
        assert entry.licence
        assert entry.start in ("scratch", "unknown") or entry.start in zoo.entries()


# ---- networks


def test_networks_have_robustbench_s_names_and_shapes() -> None:
    held: dict[str, str | None] = {}
    for name, signature in PEERS.items():
        network = robustbench_peer.of_ours(name).network
        if network and network not in held:
            with torch.device("meta"):
                state = sm.model(network).state_dict()
            held[network] = f"{len(state)} {robustbench_peer.signature(state)}"
        assert held.get(network) == signature, name


def test_no_wide_preactivation_or_residual_network_is_missing() -> None:
    lacking = {name for name, signature in PEERS.items() if signature is None}
    gradient = {n for n in lacking if n.split("/")[0] != "imagenet" and "/corruptions/" not in n}
    # ResNeSt, a neural ODE, and mixtures of several networks
    assert {n.rpartition("/")[2].partition("_")[0] for n in gradient} == {
        "Sehwag2021Proxy",
        "Kang2021Stable",
        "Bai2023Improving",
        "Bai2024MixedNUTS",
    }
    assert not [n for n in lacking if "ConvStem" in n or "XCiT" in n]


@pytest.mark.parametrize(
    "name",
    [
        "cifar10/corruptions/Hendrycks2020AugMix_WRN",
        "cifar10/Linf/Ding2020MMA",
        "cifar10/Linf/Wong2020Fast",
        "cifar100/Linf/Rice2020Overfitting",
        "cifar10/L2/Rade2021Helper_R18_ddpm",
        "cifar10/Linf/Addepalli2022Efficient_RN18",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_logits_are_robustbench_s(name: str) -> None:
    if reason := robustbench_peer.why_not():
        pytest.skip(reason)
    assert robustbench_peer.distance(name, 32) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_logits_of_the_largest_families_are_robustbench_s() -> None:
    if reason := robustbench_peer.why_not():
        pytest.skip(reason)
    for name, (theirs, ours) in robustbench_peer.small().items():
        assert robustbench_peer.distance_of(theirs, ours) < 1e-5, name


def test_a_network_is_written_as_what_it_is() -> None:
    net = sm.model("rb:cifar10/corruptions/Hendrycks2020AugMix_WRN?num_classes=3")
    half = "mean=0.5,0.5,0.5&num_classes=3&std=0.5,0.5,0.5"
    assert net.soupmerge_ref == f"wrn-40-2?constants=mu,sigma&{half}"
    x = torch.rand(1, 3, 8, 8)
    again = sm.model(net.soupmerge_ref)
    torch.testing.assert_close(again(x), net(x))
    with pytest.raises(UsageError, match="no network for it"):
        sm.model("rb:cifar10/Linf/Kang2021Stable")


def test_constants_are_read_from_the_network_s_tensors() -> None:
    plain = sm.model("wrn-28-10?depth=10&widen=1")
    held = sm.model("wrn-28-10?depth=10&widen=1&mean=0,0,0&std=1,1,1&constants=mu,sigma")
    state = {**plain.state_dict(), "mu": torch.full((1, 3, 1, 1), 0.4), "sigma": held.sigma / 4}
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(sm.bind(held, state)(x), plain((x - 0.4) * 4))
    with pytest.raises(UsageError, match="two names"):
        sm.model("wrn-28-10?depth=10&widen=1&mean=0,0,0&std=1,1,1&constants=mu")


def test_each_image_may_be_standardised() -> None:
    plain = sm.model("wrn-28-10?depth=10&widen=1")
    each = sm.model("wrn-28-10?depth=10&widen=1&per_image=true")
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(each(0.5 * x + 0.1), plain((x - mean_of(x)) / std_of(x)))
    flat = torch.full((1, 3, 8, 8), 0.3)  # no deviation to divide by
    torch.testing.assert_close(each(flat), plain(0 * flat))


def mean_of(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).mean(1).view(-1, 1, 1, 1)


def std_of(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).std(1).view(-1, 1, 1, 1)


def test_mean_sparse() -> None:
    layer, x = MeanSparse(2), torch.randn(3, 2, 4, 4)
    assert torch.equal(layer(x), x)
    layer.running_mean[:], layer.running_var[:] = torch.tensor([1.0, -1]), torch.tensor([4.0, 1])
    layer.threshold.fill_(0.5)
    for channel, mean, width in ((0, 1.0, 1.0), (1, -1.0, 0.5)):
        near = (x[:, channel] - mean).abs() < width
        assert near.any()
        assert torch.equal(layer(x)[:, channel], torch.where(near, mean, x[:, channel]))


def test_pssilu_begins_as_silu() -> None:
    x = torch.randn(100)
    torch.testing.assert_close(PSSiLU()(x), F.silu(x))


def test_a_cosine_head_sees_directions() -> None:
    net = sm.model("wrn-28-10?depth=10&widen=1&cosine=true")
    x = torch.rand(4, 3, 8, 8)
    before = net(x)
    assert before.abs().max() <= 1
    with torch.no_grad():
        net.fc.weight.mul_(7)
    torch.testing.assert_close(net(x), before)


# ---- files


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like RobustBench's, and no way to the network."""
    monkeypatch.setenv(keeping.MODELS, str(tmp_path / "models"))
    monkeypatch.setenv(keeping.HOME, str(tmp_path / "home"))
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
    constants = {"mu", "sigma"} if "Pang" in name else set()
    assert set(checkpoint) == {"conv1.weight"} | constants
    assert torch.equal(checkpoint["conv1.weight"], weights()["conv1.weight"])


def test_constants_that_a_file_leaves_out_are_added(models: Path) -> None:
    put(models, RICE, weights())
    checkpoint = sm.load(f"rb:{RICE}")[0]
    assert checkpoint["mu"].flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    assert checkpoint["sigma"].shape == (1, 3, 1, 1)
    assert any("mu and sigma" in note for note in checkpoint.notes)
    held = weights(mu=torch.full((1, 3, 1, 1), 0.1), sigma=torch.ones(1, 3, 1, 1))
    put(models, RICE, held)
    assert sm.load(f"rb:{RICE}")[0]["mu"].flatten().tolist() == pytest.approx([0.1] * 3)


def test_a_normaliser_in_front_is_taken_off_if_it_is_the_stated_one(models: Path) -> None:
    constants = {
        "normalize.mean": torch.tensor([0.4914, 0.4822, 0.4465]),
        "normalize.std": torch.tensor([0.2471, 0.2435, 0.2616]),
    }
    put(models, RICE, {**constants, **prefixed("model.", weights())})
    assert set(sm.load(f"rb:{RICE}")[0]) == {"conv1.weight", "mu", "sigma"}
    constants["normalize.std"] = torch.ones(3)
    put(models, RICE, {**constants, **prefixed("model.", weights())})
    with pytest.raises(InputError, match="normaliser holds"):
        sm.load(f"rb:{RICE}")


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


def test_a_converted_file_stands_for_its_pickle(models: Path) -> None:
    (models / "cifar10" / "Linf").mkdir(parents=True)
    sm.save(models / f"{RICE.replace('L2', 'Linf')}.safetensors", weights())
    checkpoint = sm.load("rb:cifar10/Linf/Rice2020Overfitting")[0]
    assert checkpoint.model is not None
    assert checkpoint.model.startswith("wrn-34-20?")


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
    monkeypatch.delenv(keeping.MODELS)
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


def test_a_pulled_file_is_pinned(site: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is not here: downloading it"):
        first = sm.load(f"rb:{STANDARD}")[0]
    path = tmp_path / "home" / "robustbench" / f"{STANDARD}.pt"
    assert first.files == (path,)
    pin = path.with_name("Standard.pt.sha256")
    assert pin.read_text() == f"{first.sha256}  Standard.pt\n"
    assert sm.load(f"rb:{STANDARD}")[0].sha256 == first.sha256

    torch.save(weights(1), path)  # somebody else's
    with pytest.raises(UnsafeError, match="is not the file that was pulled"):
        sm.load(f"rb:{STANDARD}")
    path.unlink()
    torch.save(weights(1), site)  # the site's is another one now
    with pytest.warns(match="downloading"), pytest.raises(UnsafeError, match="another file"):
        sm.load(f"rb:{STANDARD}")
    pin.unlink()
    with pytest.warns(UserWarning, match="downloading"):
        sm.load(f"rb:{STANDARD}")


def test_a_hash_in_a_name_is_held_to(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.delenv("SOUPMERGE_OFFLINE")
    told: dict[str, str] = {}

    def download(address: str, target: Path, *, sha256: str, **_: Any) -> str:
        told.update(address=address, sha256=sha256)
        raise NetworkError("no")

    monkeypatch.setattr(downloads, "download", download)
    with pytest.warns(UserWarning, match="downloading"), pytest.raises(NetworkError):
        sm.load("rb:imagenet/Linf/Standard_R50")
    assert told["address"].endswith(f"-{told['sha256']}.pth")


# ---- origin


def test_networks_trained_apart_are_known_before_anything_is_measured(
    models: Path, soupmerge: Typed, tmp_path: Path
) -> None:
    put(models, WANG, weights(0))
    put(models, XU, weights(1))
    with pytest.warns(UserWarning, match="trained apart, from scratch"):
        pots = sm.load(f"rb:{WANG}", f"rb:{XU}")
    assert pots.model is not None
    assert pots.model.startswith("dm-wrn-28-10?")
    result = soupmerge("check", f"rb:{WANG}", f"rb:{XU}")
    assert result.status == 1
    assert "separate" in result.out
    told = json.loads(soupmerge("check", f"rb:{WANG}", f"rb:{XU}", "--json").out)
    assert told["basin"]["verdict"] == "separate"
    assert "trained apart" in told["basin"]["reasons"][0]

    soup = tmp_path / "soup.safetensors"
    mixed = soupmerge("mix", f"rb:{WANG}", f"rb:{XU}", "-w", "0.5,0.5", "-o", soup)
    assert mixed.status == 0
    assert "trained apart" in mixed.err
    written = sm.load(soup)[0]
    assert written.model == pots.model
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
    with pytest.raises(InputError, match="was made for the network"):
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
    pots = sm.load(entry.ref)
    again: nn.Module = sm.model(like=pots)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(sm.bind(again, pots[0])(x), net(x))


def test_the_document_counts_the_networks() -> None:
    found = Counter(e.network.partition("?")[0] for e in zoo.entries().values() if e.network)
    page = (Path(__file__).parents[2] / "docs" / "robustbench.md").read_text()
    rows = re.findall(r"^\| (`.*`) \| (\d+) \|", page, re.MULTILINE)
    told: Counter[str] = Counter()
    for names, count in rows:
        forms = re.findall(r"`([^`]+)`", names)
        assert sum(found[form] for form in forms) == int(count), names
        told.update(forms)
    assert told == dict.fromkeys(found, 1)


def test_opening_and_mixing_need_no_torch() -> None:
    code = "import sys, soupmerge.sources.robustbench.checkpoints; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

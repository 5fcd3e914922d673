"""RobustBench's own networks, where its package is installed: with which ours are compared.

The published package cannot be imported as it is: it wants `pkg_resources`, which setuptools
dropped, and `autoattack`, which is not what its dependency installs. Both are stood in for here,
and so is what it needs for other things than networks. Run as a module, from the repository:

    python -m tests.sources.robustbench_peer shapes
        writes tests/sources/data/robustbench.json
    python -m tests.sources.robustbench_peer logits [NAME…]
        compares the logits of each network on random weights; all take 3 GB and half an hour
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

import soupmerge as sm
from soupmerge.sources.models.wide_resnet import WideResNetA4
from soupmerge.sources.robustbench import zoo

SHAPES = Path(__file__).parent / "data" / "robustbench.json"
STOOD_IN = ("pkg_resources", "autoattack", "gdown", "geotorch", "torchdiffeq", "requests", "pandas")
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


class StandIn(types.ModuleType):
    """A module that has every name, so that whoever imports from it can be imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def why_not() -> str | None:
    """Return why RobustBench's networks cannot be had, or None if they can."""
    if importlib.util.find_spec("robustbench") is None:
        return "robustbench is not installed (pip install --no-deps robustbench==1.1.1)"
    for name in STOOD_IN:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            for stood_in in (name, f"{name}.state"):
                module = sys.modules[stood_in] = StandIn(stood_in)
                module.__spec__ = importlib.machinery.ModuleSpec(stood_in, None)
    try:
        importlib.import_module("robustbench.model_zoo.models")
    except Exception as error:
        return f"robustbench cannot be imported: {error!r}"
    return None


def names() -> list[str]:
    """Return RobustBench's names of its entries, ensembles as one."""
    models: Any = importlib.import_module("robustbench.model_zoo.models").model_dicts
    return [f"{d.value}/{t.value}/{n}" for d in models for t in models[d] for n in models[d][t]]


def peer(name: str) -> nn.Module:
    """Return RobustBench's network for the entry *name*; for an ensemble, its first part."""
    import timm

    models: Any = importlib.import_module("robustbench.model_zoo.models").model_dicts
    data, threat, short = name.split("/")
    by_data = {d.value: models[d] for d in models}[data]
    entry = {t.value: by_data[t] for t in by_data}[threat][short]
    registered = f"{short.lower().replace('-', '_')}_{data}_{threat.lower()}"
    if timm.is_model(registered):
        return timm.create_model(registered, num_classes=CLASSES[data], pretrained=False)
    if short == "Standard_R50":  # theirs would download its weights
        return peer("imagenet/Linf/Engstrom2019Robustness")
    net: nn.Module = entry["model"]()
    return net


def bare(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of *net* under the names of published files: without its wrapper's."""
    state = net.state_dict()
    if "normalize.mean" in state:
        return {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
    if "branch1.conv1.weight" in state:
        return {n.removeprefix("branch1."): t for n, t in state.items() if n.startswith("branch1.")}
    return state


def signature(state: Any) -> str:
    """Return a hash of names and shapes."""
    lines = [f"{name} {tuple(state[name].shape)}\n" for name in sorted(state)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def of_ours(name: str) -> zoo.ZooEntry:
    """Return our entry for their *name*: the first part of an ensemble."""
    return zoo.entries().get(name) or zoo.entries()[f"{name}_m0"]


def write_shapes(*_: str) -> None:
    """Write the signature of each of RobustBench's networks, or null if ours has none."""
    found = {}
    for name in names():
        if not of_ours(name).network:
            found[name] = None
            continue
        with torch.device("meta"):
            state = bare(peer(name))
        found[name] = f"{len(state)} {signature(state)}"
    SHAPES.parent.mkdir(exist_ok=True)
    SHAPES.write_text(json.dumps(found, indent=0) + "\n")


def randomise(net: nn.Module) -> None:
    """Give *net* weights and statistics at random, of sizes with which logits stay sizes."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        last = name.rpartition(".")[2]
        if not tensor.is_floating_point() or last in ("mean", "std", "mu", "sigma", "batch_num"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if last == "running_var":
            tensor.copy_(1 + 0.5 * noise.tanh())
        elif last == "threshold":
            tensor.fill_(0.2)
        elif tensor.ndim < 2:
            tensor.copy_(0.1 * noise + (1 if last in ("weight", "alpha") else 0))
        else:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)


def small() -> dict[str, tuple[nn.Module, nn.Module]]:
    """Return RobustBench's networks and ours of the largest families, in small sizes."""
    home = "robustbench.model_zoo.architectures."
    squeezing, sparse, sparse_squeezing, wide = (
        importlib.import_module(home + name)
        for name in (
            "robustarch_wide_resnet",
            "Meansparse_wrn_94_16",
            "Meansparse_ra_wrn_70_16",
            "robust_resnet",
        )
    )
    dm = sparse.CIFAR10_MEAN, sparse.CIFAR10_STD
    ra = {
        "stem_width": 8, "depth": [2, 1, 1], "stage_width": [12, 16, 24], "groups": [1, 1, 1],
        "activation_fn": nn.SiLU, "se_ratio": 0.25, "se_activation": nn.ReLU, "se_order": 2,
    }  # fmt: skip
    ours = "soupmerge.sources.models.dm_wide_resnet:DMWideResNet"
    settings: dict[str, Any] = {"mean": dm[0], "std": dm[1]}
    like_ra: dict[str, Any] = settings | {
        "blocks": (2, 1, 1),
        "widths": (8, 12, 16, 24),
        "squeeze": 0.25,
    }

    class SmallA4(WideResNetA4):
        channels, depths = (8, 12, 16, 24), (2, 1, 2)

    a4 = wide.PreActResNet(
        channel_configs=SmallA4.channels, depth_configs=SmallA4.depths,
        activations=("SiLU",) * 3, pre_process=True,
    )  # fmt: skip
    return {
        "squeeze": (squeezing.NormalizedWideResNet(*dm, **ra), sm.model(ours, **like_ra)),
        "sparse": (
            sparse.MeanSparse_DMWideResNet(10, 10, 1, nn.SiLU),
            sm.model(ours, depth=10, widen=1, sparse=True, **settings),
        ),
        "sparse and squeeze": (
            sparse_squeezing.NormalizedWideResNet(*dm, **ra),
            sm.model(ours, sparse=True, **like_ra),
        ),
        "a4": (a4, SmallA4().eval()),
    }


@torch.no_grad()
def distance_of(theirs: nn.Module, ours: nn.Module) -> float:
    """Return how far logits are apart on the same random weights, relative to their largest."""
    randomise(theirs.eval())
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = theirs(x)
    ours.load_state_dict(theirs.state_dict())
    return float((ours(x) - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def distance(name: str, size: int, images: int = 1) -> float:
    """Return how far our logits are from RobustBench's, relative to their largest."""
    theirs = peer(name).eval()
    randomise(theirs)
    x = torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(1))
    if hasattr(theirs, "branch1"):
        expected = theirs.branch1((x - theirs.mu) / theirs.sigma)
    else:
        expected = theirs(x)
    ours = sm.model(of_ours(name).ref)
    ours.load_state_dict(bare(theirs))
    del theirs
    return float((ours(x) - expected).abs().max() / expected.abs().max())


def compare_logits(*chosen: str) -> None:
    """Print how far logits are apart, once for each network."""
    done: set[str] = set()
    for name in chosen or names():
        network = of_ours(name).network
        if network and network not in done:
            done.add(network)
            size = 224 if name.startswith("imagenet") else 32
            sys.stdout.write(f"{distance(name, size):.1e}  {name}  {network}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    {"shapes": write_shapes, "logits": compare_logits}[sys.argv[1]](*sys.argv[2:])

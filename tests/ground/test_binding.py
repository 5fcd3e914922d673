"""Module and state become a classifier, on a copy; what does not fit is refused, all of it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import soupmerge as sm
from soupmerge.binding import (
    align,
    cast,
    device_of,
    frozen,
    fused,
    hollow,
    load_into,
    ref_of,
    set_size,
)
from soupmerge.errors import InputError, UsageError
from soupmerge.wrappers import PREFIXES
from tests.shared import Stop

CPU = torch.device("cpu")


class Net(nn.Module):
    """A convolution, a norm and a head; a table that is of its state, and one that is not."""

    table: Tensor
    mesh: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, 3)
        self.register_buffer("table", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("mesh", torch.tensor([0.5]), persistent=False)
        self.register_buffer("nothing", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.conv(x)).flatten(1)
        logits: Tensor = self.head(z) * self.table + self.mesh
        return logits


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


@pytest.fixture
def state(net: Net) -> dict[str, Tensor]:
    """Other weights, with statistics that are not the first ones."""
    noise = torch.Generator().manual_seed(1)
    made = {
        name: torch.rand(tensor.shape, generator=noise).to(tensor.dtype) + 1
        for name, tensor in net.state_dict().items()
    }
    return {**made, "norm.num_batches_tracked": torch.tensor(7)}


X = torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(2))


def numbers(module: nn.Module) -> dict[str, list[Any]]:
    return {name: tensor.tolist() for name, tensor in module.state_dict().items()}


def test_what_is_bound_is_a_copy_with_these_weights_ready_to_be_judged(
    net: Net, state: dict[str, Tensor]
) -> None:
    before, given = numbers(net), {name: tensor.clone() for name, tensor in state.items()}
    bound = sm.bind(net, state)
    assert numbers(bound) == {name: tensor.tolist() for name, tensor in state.items()}
    assert not any(m.training for m in bound.modules())
    assert not any(p.requires_grad for p in bound.parameters())
    twin = copy.deepcopy(net)
    twin.load_state_dict(state)
    torch.testing.assert_close(bound(X), twin.eval()(X))
    assert bound.conv.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        bound.conv.weight.zero_()
    assert numbers(net) == before
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(state[name], given[name]) for name in given)


def test_what_is_bound_goes_to_a_device_or_stays_where_it_is(
    net: Net, state: dict[str, Tensor]
) -> None:
    """The meta device stands for another."""
    assert {t.device.type for t in sm.bind(net, state).state_dict().values()} == {"cpu"}
    away = sm.bind(net, state, device="meta").state_dict().values()
    assert {t.device.type for t in away} == {"meta"}


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_a_wrapper_s_prefix_may_differ(net: Net, state: dict[str, Tensor], prefix: str) -> None:
    """Where the network has it and the state does not."""

    class Wrapped(nn.Module):
        pass

    inner: nn.Module = net
    for part in reversed(prefix.rstrip(".").split(".") if prefix else []):
        outer = Wrapped()
        outer.add_module(part, inner)
        inner = outer
    aligned = align(state, inner)
    assert list(aligned) == [prefix + name for name in state]
    assert all(aligned[prefix + name] is tensor for name, tensor in state.items())
    load_into(inner, state)
    assert net.table.tolist() == state["table"].tolist()


def test_every_misfit_is_listed(net: Net, state: dict[str, Tensor], tmp_path: Path) -> None:
    del state["table"]
    state |= {"extra": torch.zeros(1), "head.bias": torch.zeros(4), "conv.bias": torch.zeros(1)}
    sm.save(tmp_path / "a.safetensors", state)
    with pytest.raises(InputError, match="--model") as refused:
        sm.bind(net, sm.load(tmp_path / "a.safetensors")[0])
    assert sorted(refused.value.problems) == [
        "conv.bias: model has shape (2,), checkpoint (1,)",
        "extra: not in the model",
        "head.bias: model has shape (3,), checkpoint (4,)",
        "table: missing from the checkpoint",
    ]
    assert "a.safetensors" in str(refused.value.where)
    with pytest.raises(InputError) as strange:
        sm.bind(net, {"a": torch.zeros(1)})
    assert strange.value.problems == (
        f"no tensor name in common (checkpoint: 1 tensors, model: {len(net.state_dict())})",
    )
    assert strange.value.where is None


def test_a_hollow_network_has_no_numbers_and_takes_weights_with_each_call(
    net: Net, state: dict[str, Tensor]
) -> None:
    net.tied = net.head  # one module under two names stays one
    made = hollow(net)
    tensors = {**dict(made.named_parameters()), "table": made.table}
    assert {t.device.type for t in tensors.values()} == {"meta"}
    assert not any(p.requires_grad for p in made.parameters())
    assert all(isinstance(p, nn.Parameter) for p in made.parameters())
    assert made.tied is made.head
    assert [made.mesh.tolist(), made.nothing] == [[0.5], None]
    assert hollow(net, "meta").mesh.device.type == "meta"
    assert not any(m.training for m in made.modules())
    bound = sm.bind(net, {**state, **{f"tied.{n}": state[f"head.{n}"] for n in ("weight", "bias")}})
    torch.testing.assert_close(functional_call(made, state, (X,)), bound(X))
    assert net.training
    assert net.conv.weight.device == CPU
    assert net.conv.weight.requires_grad


class Sized(nn.Module):
    """A network that knows where it looks, in two places; one is within the other."""

    def __init__(self, refuses: str | None = None) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.refuses = refuses

    def set_input_size(self, img_size: Any) -> None:
        if self.refuses is not None:
            raise RuntimeError(self.refuses)
        self.seen.append(img_size)
        self.train()
        self.position = nn.Parameter(torch.zeros(1))


def test_networks_that_know_where_they_look_are_set_to_a_size() -> None:
    first, second, inner = Sized(), Sized(), Sized()
    first.inner = inner
    net = nn.Sequential(nn.Identity(), nn.Sequential(first), second)
    set_size(net, (6, 8))
    assert [first.seen, second.seen, inner.seen] == [[(6, 8)], [(6, 8)], []]
    assert not any(m.training for m in net.modules())
    assert not any(p.requires_grad for p in net.parameters())
    set_size(nn.Sequential(nn.Conv2d(1, 1, 1)), (6, 8))


@pytest.mark.parametrize(
    ("words", "expected"), [("too small\nreally", "too small"), ("", "RuntimeErr")]
)
def test_a_size_that_a_network_refuses_is_an_error_that_names_it(words: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"cannot be set to images of 6×8: {expected}") as refused:
        set_size(Sized(words), (6, 8), where="vit.pt")
    assert refused.value.where == "vit.pt"
    assert "really" not in str(refused.value)
    assert refused.value.fix == "choose another resolution"
    with pytest.raises(InputError, match="^model: cannot be set"):
        set_size(Sized(words), (6, 8))


def test_a_network_of_ours_knows_its_written_form() -> None:
    plain = nn.Linear(1, 1)
    assert ref_of(plain) is None
    plain.soupmerge_ref = 3  # type: ignore[assignment]
    assert ref_of(plain) is None
    plain.soupmerge_ref = "digits-cnn?width=4"  # type: ignore[assignment]
    assert ref_of(plain) == "digits-cnn?width=4"


@pytest.mark.parametrize(
    ("count", "name", "device"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (1, "auto", "cuda:0"),
        (2, "auto", "cuda:0"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_devices_are_found_by_name(
    count: int, name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert device_of(name) == torch.device(device)


@pytest.mark.parametrize("name", ["cuda:2", "gpu", "mps"])
def test_devices_that_are_not_here_are_refused_with_those_that_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    words = f"no device '{name}' here; choose auto or one of cpu, cuda:0, cuda:1"
    with pytest.raises(UsageError, match=words) as refused:
        device_of(name)
    assert refused.value.where == "--device"


def test_in_bf16_a_classifier_computes_in_bf16_and_answers_in_float32() -> None:
    seen: list[bool] = []

    def classifier(x: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        assert x.dtype == torch.float32
        return x.flatten(1) @ torch.eye(32)[:, :3]

    assert cast(classifier, "fp32", CPU) is classifier
    logits = cast(classifier, "bf16", CPU)(X)
    assert seen == [True]
    assert logits.dtype == torch.float32
    assert torch.equal(logits, X.flatten(1)[:, :3].bfloat16().float())
    assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(UsageError, match="unknown precision 'fp16'; choose fp32 or bf16"):
        cast(classifier, "fp16", CPU)


def folded(net: nn.Module) -> bool:
    made = fused(net, X)
    count = [sum(isinstance(m, nn.BatchNorm2d) for m in one.modules()) for one in (made, net)]
    return count[0] < count[1]


def stacked(**kinds: nn.Module) -> nn.Module:
    layers = {"conv": nn.Conv2d(2, 2, 3), "norm": nn.BatchNorm2d(2), "rows": nn.Flatten()}
    net = nn.Sequential(OrderedDict({**layers, **kinds, "head": nn.Linear(8, 3)})).eval()
    with torch.no_grad():
        net.norm.running_mean.copy_(torch.tensor([0.3, -0.2]))  # type: ignore[union-attr, operator]
        net.norm.running_var.copy_(torch.tensor([2.0, 0.5]))  # type: ignore[union-attr, operator]
    return net


def test_batch_norms_are_folded_and_nothing_else_changes() -> None:
    """Also behind a normaliser, which is a hook of the network itself."""
    net = stacked()
    net.register_forward_pre_hook(lambda module, args: ((args[0] - 0.4) / 0.2,))
    before = numbers(net)
    made = fused(net, X)
    assert folded(net)
    torch.testing.assert_close(made(X), net(X), rtol=1e-4, atol=1e-5)
    assert numbers(net) == before
    assert not any(p.requires_grad for p in made.parameters())
    assert any(p.requires_grad for p in net.parameters())
    assert made.conv.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr, operator]


class Branches(nn.Module):
    """Its way depends on the images, which cannot be followed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x) if x.sum() > 0 else self.net(-x)
        return logits


def test_what_cannot_be_followed_is_left_as_it_is() -> None:
    odd = Branches(stacked()).eval()
    assert fused(odd, X) is odd
    for kind in ("register_forward_hook", "register_forward_pre_hook"):
        hooked = stacked()
        getattr(hooked.conv, kind)(lambda *_: None)
        assert fused(hooked, X) is hooked


def test_what_comes_out_otherwise_is_left_as_it_is() -> None:
    """Rounding may differ by a thousandth."""

    class Elsewhere(nn.Module):
        """Its answers differ from those of the network that is followed."""

        def __init__(self, apart: float) -> None:
            super().__init__()
            self.net, self.apart = stacked(), apart

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.net(x)
            return logits if isinstance(x, torch.fx.Proxy) else logits + self.apart

    for apart, kept in ((5e-4, False), (0.1, True)):
        net = Elsewhere(apart).eval()
        assert (fused(net, X) is net) == kept


def test_a_network_is_frozen_for_a_while_and_put_back_as_it_was(net: Net) -> None:
    net.norm.eval()
    net.head.bias.requires_grad_(False)

    def marks() -> list[Any]:
        return [[m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]]

    before = marks()
    for error in (None, Stop):
        try:
            with frozen(net):
                assert marks() == [[False] * 4, [False] * 6]
                net.conv.requires_grad_(True).train()
                if error:
                    raise error
        except Stop:
            assert error
        assert marks() == before

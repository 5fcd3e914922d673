"""Putting weights into networks. `bind` works on a copy: the caller's module is not changed."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from soupmerge.choices import PRECISIONS
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.types import Classifier, State
from soupmerge.wrappers import PREFIXES


def bind(net: nn.Module, state: State, *, device: torch.device | str | None = None) -> nn.Module:
    """Return a copy of *net* with the weights of *state*: a classifier, ready to be judged.

    The copy is in evaluation mode, its parameters require no gradient, and it is on *device*
    (default: where *net* is). *net* and *state* are not changed.

    Raises:
        InputError: names or shapes of *state* do not fit *net*; all mismatches are listed.
        NumericsError: a batch-norm variance in *state* is below 0.

    Example:
        >>> import torch, soupmerge as sm
        >>> net = torch.nn.Linear(2, 3)
        >>> soup = sm.bind(net, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
        >>> soup(torch.ones(1, 2)).tolist()
        [[2.0, 2.0, 2.0]]
    """
    bound = copy.deepcopy(net).eval().requires_grad_(False)
    load_into(bound, state)
    # channels-last is the layout in which convolutions run fastest on current CPUs and GPUs.
    bound = bound.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return bound if device is None else bound.to(device)


def hollow(net: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """Return a copy of *net* without weights, in evaluation mode, for `torch.func.functional_call`.

    Everything in its state dict is on torch's meta device and takes no memory; other buffers are
    moved to *device*.
    """
    empty = {id(t): _like(t) for t in net.state_dict(keep_vars=True).values()}
    made = copy.deepcopy(net, empty).eval()  # the memo: these count as copied
    for module in made.modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers[name]
            module._buffers[name] = None if buffer is None else buffer.to(device)
    return made


def _like(tensor: Tensor) -> Tensor:
    made = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def set_size(bound: nn.Module, size: tuple[int, int], *, where: str = "model") -> None:
    """Make *bound* ready for images of *size* (height, width), in place.

    Networks that depend on the image size have their position embeddings interpolated and their
    windows scaled by timm's ``set_input_size``. All others, such as convolutional networks, are
    left unchanged. *where* names the network in errors.

    Raises:
        InputError: the network does not accept the size.
    """
    try:
        for module in _outermost(bound, "set_input_size"):
            module.set_input_size(img_size=size)  # type: ignore[operator]
    except Exception as error:  # foreign code may raise anything
        what = f"cannot be set to images of {size[0]}×{size[1]}: {first_line(error)}"
        raise InputError(what, where=where, fix="choose another resolution") from error
    bound.eval().requires_grad_(False)  # interpolated parameters are new ones


def _outermost(net: nn.Module, method: str) -> Iterator[nn.Module]:
    if hasattr(net, method):
        yield net
    else:
        for child in net.children():
            yield from _outermost(child, method)


def load_into(bound: nn.Module, state: State) -> None:
    """Load the weights of *state* into *bound*, in place.

    Raises:
        InputError, NumericsError: as `bind`.
    """
    aligned = align(state, bound)
    _require_variances(aligned, getattr(state, "ref", None))
    with torch.no_grad():
        for name, target in bound.state_dict().items():
            target.copy_(aligned[name])


def _require_variances(state: State, where: object) -> None:
    """Reject variances below 0: batch norm takes their root, so all logits would be NaN."""
    variances = {n: t for n, t in state.items() if n.rpartition(".")[2] == "running_var"}
    counts = {name: int((variance < 0).sum()) for name, variance in variances.items()}
    problems = [
        f"{n}: {count:,} of {variances[n].numel():,}" for n, count in counts.items() if count
    ]
    if problems:
        fix = "re-estimate its statistics, or leave it out"
        raise NumericsError("holds variances below 0", problems=problems, where=where, fix=fix)


def align(state: State, net: nn.Module) -> State:
    """Return *state* with the names of *net*, which may differ by a wrapper's prefix.

    Raises:
        InputError: names or shapes differ; all mismatches are listed.
    """
    wanted = net.state_dict()
    renamed = _renamed(state, set(wanted))
    problems = list(_misfits(renamed, wanted))
    if problems:
        raise InputError(
            "the checkpoint does not fit the model",
            problems=problems,
            where=getattr(state, "ref", None),
            fix="give the network it was trained with as --model",
        )
    return renamed


def _misfits(state: State, wanted: State) -> Iterator[str]:
    if not set(state) & set(wanted):
        yield f"no tensor name in common (checkpoint: {len(state)} tensors, model: {len(wanted)})"
        return
    for name in sorted(set(wanted) - set(state)):
        yield f"{name}: missing from the checkpoint"
    for name in sorted(set(state) - set(wanted)):
        yield f"{name}: not in the model"
    for name, tensor in state.items():
        shape = wanted[name].shape if name in wanted else tensor.shape
        if shape != tensor.shape:
            yield f"{name}: model has shape {tuple(shape)}, checkpoint {tuple(tensor.shape)}"


def _renamed(state: State, wanted: set[str]) -> State:
    if set(state) == wanted:
        return state
    for prefix in PREFIXES:
        if {prefix + name for name in state} == wanted:
            return {prefix + name: tensor for name, tensor in state.items()}
    return state


def first_line(error: Exception) -> str:
    """Return the first line of the message of *error*, or its type if it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def ref_of(net: nn.Module) -> str | None:
    """Return the reference of *net*, if soupmerge made it."""
    ref = getattr(net, "soupmerge_ref", None)
    return ref if isinstance(ref, str) else None


def device_of(name: str) -> torch.device:
    """Return the device called *name*: ``auto``, ``cpu`` or ``cuda[:i]``.

    Raises:
        UsageError: there is no such device here; the available ones are listed.
    """
    present = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device(present[-1] if len(present) == 1 else "cuda:0")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in present:
        fix = "choose auto or one of " + ", ".join(present)
        raise UsageError(f"no device {name!r} here", where="--device", fix=fix)
    return torch.device(wanted)


def cast(classifier: Classifier, precision: str, device: torch.device) -> Classifier:
    """Return *classifier* computing in *precision* (``fp32`` or ``bf16`` autocast).

    Weights, images and the resulting logits stay float32.

    Raises:
        UsageError: *precision* is neither.
    """
    if precision not in PRECISIONS:
        fix = "choose " + " or ".join(PRECISIONS)
        raise UsageError(f"unknown precision {precision!r}", where="precision", fix=fix)
    if precision == "fp32":
        return classifier

    def in_bf16(x: Tensor, /) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return classifier(x).float()

    return in_bf16


def fused(net: nn.Module, x: Tensor) -> nn.Module:
    """Return *net* with batch norms folded into the convolutions before them, if possible.

    Requires that torch.fx can trace the forward pass and that the logits of images *x* are the
    same up to rounding; otherwise *net* itself is returned. *net* is in evaluation mode.
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in list(net.modules())[1:]):
        return net
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # raised by torch's own imports
            from torch.fx.experimental.optimization import fuse

            made = fuse(net).requires_grad_(False)
        for hook in net._forward_pre_hooks.values():  # the normaliser is one
            made.register_forward_pre_hook(hook)
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            same = torch.allclose(made(x), net(x), rtol=1e-3, atol=1e-3)
    except Exception:  # foreign code may raise anything
        return net
    return made if same else net


@contextlib.contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Keep *net* in evaluation mode and without gradients for the block, and restore it after."""
    modes = [(module, module.training) for module in net.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    net.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)

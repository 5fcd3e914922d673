"""Pickles are read as Python reads them, except that nothing is imported or called."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._weights_only_unpickler import _get_allowed_globals

from soupmerge.weights import pickles
from soupmerge.weights.pickles import MOST_STEPS, Call, Global, Persistent, PickleError
from soupmerge.weights.rebuilding import DTYPE, PLAIN, STORAGES, is_plain

KEYS = st.none() | st.booleans() | st.integers() | st.text(max_size=300) | st.binary(max_size=300)
LEAVES = KEYS | st.floats(allow_nan=False) | st.integers(-(2**70), 2**70)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
    ),
    max_leaves=12,
)


@given(value=VALUES, protocol=st.integers(2, 5), pure=st.booleans(), before=st.binary(max_size=9))
def test_a_value_is_what_python_reads(value: Any, protocol: int, pure: bool, before: bytes) -> None:
    file = io.BytesIO()
    pickler: Any = pickle._Pickler if pure else pickle.Pickler  # type: ignore[attr-defined]
    pickler(file, protocol).dump(value)
    data = file.getvalue()
    got = pickles.read(before + data + b"more", len(before))
    expected = pickle.loads(data)
    if protocol > 2:  # before, bytes are a call of an encoder
        assert got.value == expected
        assert repr(got.value) == repr(expected)
        assert got.globals == ()
    assert got.end == len(before + data)


PROGRAMS = {
    "a list since the mark": b"(K\x01K\x02l.",
    "a tuple since the mark": b"K\x07(K\x01K\x02tq\x00h\x00\x87.",
    "a dictionary since the mark": b"(K\x01K\x02U\x01aNd.",
    "a number dropped": b"K\x01N0.",
    "a mark dropped": b"K\x01(0.",
    "numbers dropped to the mark": b"K\x05(K\x01K\x021.",
    "a number twice": b"K\x012\x86.",
    "numbers of 1, 2 and 4 bytes": b"(J\xfe\xff\xff\xffM\xff\xfeK\xfft.",
    "longer numbers": b"(\x8a\x02\x00\x80\x8b\x03\x00\x00\x00abct.",
    "a float": b"G\xbf\xf8\x00\x00\x00\x00\x00\x00.",
    "texts": b"(U\x01\xe4T\x01\x00\x00\x00\xe4X\x02\x00\x00\x00\xc3\xa4\x8c\x01at.",
    "a long text": b"\x8d\x02\x00\x00\x00\x00\x00\x00\x00\xc3\xa4.",
    "bytes": b"(B\x01\x00\x00\x00\xffC\x01\xfe\x8e\x01\x00\x00\x00\x00\x00\x00\x00\xfdt.",
    "truths and nothing": b"(\x88\x89Nt.",
    "tuples of one, two and three": b"K\x01\x85K\x02\x86K\x03K\x04\x87.",
    "an empty tuple, list and dictionary": b")]}\x87.",
    "a list appended to": b"]K\x01a(K\x02K\x03e.",
    "a dictionary set": b"}K\x01K\x02s(K\x03K\x04K\x05Nu.",
    "the memo": b"(K\x01q\x00K\x02r\x01\x00\x00\x00K\x03\x94h\x00j\x02\x00\x00\x00h\x01t.",
    "a frame": b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01.",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_each_instruction_does_what_python_s_does(program: bytes) -> None:
    expected = pickle.loads(program, encoding="latin-1")
    assert repr(pickles.read(program).value) == repr(expected)


def shown(value: Any) -> Any:
    """Return *value* with calls, globals and references as tuples, which can be compared."""
    if isinstance(value, Global):
        return value.name
    if isinstance(value, Persistent):
        return ("outside", shown(value.id))
    if isinstance(value, Call):
        parts = value.of, value.args, value.items, value.state
        return ("call", *map(shown, parts))
    if isinstance(value, (list, tuple)):
        return type(value)(map(shown, value))
    return value


@pytest.mark.parametrize(
    ("program", "value", "names"),
    [
        (b"ca\nb\n.", "a.b", ("a.b",)),
        (b"U\x01aU\x01b\x93.", "a.b", ("a.b",)),
        (b"ca\nb\nK\x01\x85R.", ("call", "a.b", (1,), None, None), ("a.b",)),
        (b"ca\nb\n)\x81.", ("call", "a.b", (), None, None), ("a.b",)),
        (b"ca\nb\nK\x01\x85}\x92.", ("call", "a.b", (1,), None, None), ("a.b",)),
        (b"(ca\nb\nK\x01K\x02o.", ("call", "a.b", (1, 2), None, None), ("a.b",)),
        (b"ca\nb\n)RNb.", ("call", "a.b", (), None, None), ("a.b",)),
        (b"ca\nb\n)RK\x07b.", ("call", "a.b", (), None, 7), ("a.b",)),
        (b"ca\nb\n)RK\x01K\x02sK\x03K\x04s.", ("call", "a.b", (), {1: 2, 3: 4}, None), ("a.b",)),
        (b"ca\nb\n)RK\x01a.", ("call", "a.b", (), None, None), ("a.b",)),
        (b"ca\nb\nca\nb\ncc\nd\n\x87.", ("a.b", "a.b", "c.d"), ("a.b", "c.d")),
        (b"K\x01Q.", ("outside", 1), ()),
        (b"\x8f(K\x01\x90.", ("call", "builtins.set", (), None, None), ()),
        (b"(K\x01K\x02\x91.", ("call", "builtins.frozenset", ([1, 2],), None, None), ()),
        (b"}Nb.", {}, ()),
    ],
)
def test_what_python_would_call_is_written_down(
    program: bytes, value: Any, names: tuple[str, ...]
) -> None:
    got = pickles.read(program)
    assert (shown(got.value), got.globals, got.end) == (value, names, len(program))


def test_keys_that_may_take_forever_to_hash_are_left_out() -> None:
    assert pickles.read(b"})K\x01sK\x02K\x03s.").value == {2: 3}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"", "ends too early, at byte 0"),
        (b"K", "ends too early, at byte 1"),
        (b"N", "ends too early, at byte 1"),
        (b"U\x05abc.", "ends too early, at byte 6"),
        (b"T\xff\xff\xff\xff.", "ends too early, at byte 6"),
        (b"N\xff.", r"unknown instruction b'\\xff' at byte 1"),
        (b"I1\n.", "unknown instruction b'I' at byte 0"),
        (b"\x80\x06N.", "has a protocol above 5"),
        (b".", "is invalid at byte 1"),
        (b"h\x00.", "is invalid at byte 2"),
        (b"ca", "is invalid at byte 1"),
        (b"X\x01\x00\x00\x00\xff.", "is invalid at byte 6"),
        (b"]Nb.", "sets attributes of a list at byte 3"),
        (b"NK\x01a.", "adds to a NoneType at byte 4"),
        (b"K\x01U\x01b\x93.", "a global whose name is not a string at byte 6"),
        (b"U\x01bK\x01\x93.", "a global whose name is not a string at byte 6"),
        (b"}K\x01K\x02sK\x01K\x03s.", "has the key 1 twice, at byte 11"),
        (b"(K\x01K\x02K\x01K\x03d.", "has the key 1 twice, at byte 10"),
        (b"}(K\x01u.", "is invalid at byte 5"),
    ],
)
def test_a_damaged_pickle_says_where(program: bytes, words: str) -> None:
    with pytest.raises(PickleError, match=words):
        pickles.read(program)


def test_the_number_of_instructions_is_bounded() -> None:
    pairs = b"N0" * (MOST_STEPS // 2 - 1)
    assert MOST_STEPS == 800_000
    assert pickles.read(pairs + b"N.").value is None
    with pytest.raises(PickleError, match="longer than 800,000 instructions"):
        pickles.read(b"]0" + pairs + b"N.")


# ---- names that a file of weights may refer to


def test_plain_names_are_those_that_torch_allows_and_python_s_own_containers() -> None:
    allowed = set(_get_allowed_globals())
    ours = {
        *("builtins.dict", "builtins.list", "builtins.frozenset", "__builtin__.set"),
        *("collections.defaultdict", "torch._utils._rebuild_sparse_csr_tensor"),
    }
    assert PLAIN - allowed == ours
    others = {name for name in allowed if not is_plain(name)}
    assert {name for name in others if not name.endswith(("Tensor", "Storage"))} == {
        *("builtins.bytearray", "torch.bcomplex32"),
        "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    } & others


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_storages_and_dtypes_are_named_as_in_torch() -> None:
    for kind, dtype in STORAGES.items():
        storage = getattr(torch, f"{kind}Storage")
        assert kind == "Untyped" or storage.dtype == getattr(torch, dtype)
        assert is_plain(f"torch.{kind}Storage")
        assert is_plain(f"torch.cuda.{kind}Storage")
        assert is_plain(f"torch.storage.{kind}Storage")
    dtypes = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    short = {"cfloat", "cdouble", "chalf", "int", "short", "bcomplex32", "bit"}
    assert {name for name in dtypes if not DTYPE.fullmatch(f"torch.{name}")} <= short
    for name in ("torch.load", "torch.hub.load", "os.system", "torch.float32.x", "torchXbool"):
        assert not is_plain(name)
    assert not is_plain("torch.OddStorage")
    assert not is_plain("torch.nn.FloatStorage")

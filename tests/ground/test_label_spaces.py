"""Label spaces: names find outputs, and what has no place is refused, all of it at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from soupmerge.choices import LABEL_SPACES
from soupmerge.errors import InputError, UsageError
from soupmerge.label_spaces.known import label_space
from soupmerge.label_spaces.outputs import Outputs
from soupmerge.label_spaces.space import LabelSpace

PETS = LabelSpace.of("pets", [("cat", "Felis catus"), ("dog",), ("emu", "big bird"), ("bird",)])


# ---- names


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["cat", "dog", "emu", "bird"], [0, 1, 2, 3]),
        (["DOG", "felis_catus"], [1, 0]),
        (["Big Bird", "bird"], [2, 3]),
        (["3", "00"], [3, 0]),
        ([], []),
    ],
)
def test_a_class_is_found_by_any_of_its_names(names: list[str], places: list[int]) -> None:
    assert PETS.places(names, where="photos") == places


def test_where_numbers_are_names_they_are_no_places() -> None:
    years = LabelSpace.of("years", [("1990",), ("1",), ("0",)])
    assert years.places(["0", "1"], where="photos") == [2, 1]
    with pytest.raises(InputError, match="'2' is not one of them"):
        years.places(["2"], where="photos")


def test_all_names_without_one_place_are_told_at_once() -> None:
    twins = LabelSpace.of("birds", [("crane", "Grus"), ("crane", "hoist"), ("dogg",), ("emu",)])
    with pytest.raises(InputError) as refused:
        twins.places(["crane", "dog", "emu", "3", "Ωmega", "-1", "4", "²"], where="folder:photos")
    told = refused.value
    assert told.where == "folder:photos"
    assert told.exit_status == 3
    assert told.problems == (
        "'crane' may be crane, Grus (output 0) or crane, hoist (output 1)",
        "'dog' is not one of them; did you mean 'dogg'?",
        "'Ωmega' is not one of them",
        "'-1' is not one of them",
        "'4' is not one of them",
        "'²' is not one of them",
        "'emu' and '3' are both emu (output 3)",
    )
    assert "crane, dog, emu" in told.what, "one side"
    assert "birds (crane, crane, dogg, emu)" in told.what, "and the other"
    assert "--classes FILE" in str(told.fix)


# ---- files


def test_a_file_names_the_outputs_in_order(tmp_path: Path) -> None:
    file = tmp_path / "pets.txt"
    file.write_text("cat\tFelis catus\n dog \t\nemu\tÄmu\n", "utf-8")
    space = label_space(str(file))
    assert (space.ref, space.outputs) == (
        "pets.txt",
        (("cat", "Felis catus"), ("dog",), ("emu", "Ämu")),
    )
    assert space.restricted(space.places(["ämu", "cat"], where="x")) == Outputs(
        ((2,), (0,)), of=3, names=("cat", "dog", "emu"), ref="pets.txt"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "names no outputs"),
        (b"\n", "line 1 has no name"),
        (b"cat\n\t \ndog\n", "line 2 has no name"),
        (b"cat\ndog\nCat\n", "'cat' is on lines 1 and 3"),
        (b"cat\tdog\nemu\tDOG\n", "'dog' is on lines 1 and 2"),
        (b"cat\n\xff\n", "not text in UTF-8"),
    ],
)
def test_a_file_that_does_not_name_each_output_is_refused(
    tmp_path: Path, text: bytes, words: str
) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(text)
    with pytest.raises(InputError, match=words) as refused:
        label_space(str(file))
    assert refused.value.where == file
    assert "one line for each output" in str(refused.value.fix)


def test_a_file_is_told_all_its_faults_at_once(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("a\n\nb\na\nb\n")
    with pytest.raises(InputError, match="does not name each output") as refused:
        label_space(str(file))
    assert [line.split()[0] for line in refused.value.problems] == ["line", "'a'", "'b'"]


def test_what_is_neither_a_space_nor_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'imagenet-a'.*or name a file"):
        label_space("imagenet-aa")
    with pytest.raises(InputError, match="not a regular file"):
        label_space(str(tmp_path))


# ---- known spaces


def test_known_spaces_need_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from soupmerge.choices import LABEL_SPACES;"
        "from soupmerge.label_spaces.known import label_space;"
        "[label_space(name) for name in LABEL_SPACES];"
        "sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code]).returncode == 0


def test_imagenet_and_its_subsets_are_those_of_timm() -> None:
    from timm.data import ImageNetInfo, RealLabelsImagenet

    info, space = ImageNetInfo(), label_space("imagenet")
    assert len(space.outputs) == 1000
    for i in (0, 134, 517, 999):
        assert space.outputs[i][0] == info.index_to_label_name(i)
        assert ", ".join(space.outputs[i][1:]) == info.label_name_to_description(
            info.index_to_label_name(i), detailed=False
        )
    for name, inside, outside in (("imagenet-a", 6, 0), ("imagenet-r", 1, 0)):
        subset = label_space(name)
        kept = [outputs for _, (outputs,) in subset.classes]
        assert (len(kept), kept == sorted(set(kept))) == (200, True)
        assert inside in kept
        assert outside not in kept
        outputs = subset.restricted(range(200))
        assert outputs is not None
        assert outputs.describe() == "200 of 1,000 outputs"
    real = label_space("imagenet-real").right_by_image
    theirs = RealLabelsImagenet([f"val/{name}.JPEG" for name in real or {}])
    assert real is not None
    assert list(real.values()) == [theirs.real_labels[f"{name}.JPEG"] for name in real]
    assert sum(not right for right in real.values()) == 3163, "as Beyer et al. report"


def test_conflicts_are_of_sixteen_coarse_classes() -> None:
    """The synsets by which Geirhos et al. made the table, for some of its classes."""
    space = label_space("conflict")
    coarse = {names[0]: outputs for names, outputs in space.classes}
    assert list(coarse) == sorted(coarse)
    assert len(coarse) == 16
    fine = [i for outputs in coarse.values() for i in outputs]
    assert len(fine) == len(set(fine)) == 207
    synsets = {
        "airplane": ["n02690373"],
        "bear": ["n02132136", "n02133161", "n02134084", "n02134418"],
        "boat": ["n02951358", "n03344393", "n03662601", "n04273569", "n04612504"],
        "cat": ["n02123045", "n02123159", "n02123394", "n02123597", "n02124075", "n02125311"],
        "clock": ["n02708093", "n03196217", "n04548280"],
        "elephant": ["n02504013", "n02504458"],
        "truck": "n03345487 n03417042 n03770679 n03796401 n03930630 n03977966 n04461696 n04467665",
    }
    for name, known in synsets.items():
        words = known.split() if isinstance(known, str) else known
        assert [space.outputs[i][0] for i in coarse[name]] == words
    dogs = [space.outputs[i][0] for i in coarse["dog"]]
    assert (dogs[0], dogs[-1], len(dogs)) == ("n02085782", "n02113978", 109)


def test_every_space_of_the_table_has_distinct_classes() -> None:
    for name in LABEL_SPACES:
        space = label_space(name)
        assert space.ref == name
        first = [entry.names[0] for entry in space.classes]
        assert space.places(first, where=name) == list(range(len(first)))


# ---- logits


GROUPS = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.sets(st.integers(0, n - 1), min_size=1).map(sorted), min_size=1, max_size=5),
    )
)


@given(GROUPS, st.integers(0, 2**31))
def test_logits_of_groups_are_logarithms_of_mean_probabilities(
    drawn: tuple[int, list[list[int]]], seed: int
) -> None:
    n, groups = drawn
    z = np.random.default_rng(seed).normal(scale=5, size=(3, n))
    found = Outputs(tuple(map(tuple, groups)), of=n)(torch.from_numpy(z)).numpy()
    if all(len(group) == 1 for group in groups):
        assert (found == z[:, [i for (i,) in groups]]).all()
    else:
        means = [softmax(z, 1)[:, group].mean(1) for group in groups]
        assert np.allclose(found, np.log(np.stack(means, 1)), atol=1e-9)


def test_logits_of_groups_are_as_accurate_as_float32_whatever_the_dtype() -> None:
    z = torch.tensor([[3.0, 2.0, -200.0, -200.5]])
    found = Outputs(((0, 1), (2, 3)), of=4)(z)
    exact = [logsumexp([3, 2]) - logsumexp(z[0]), logsumexp([-200, -200.5]) - logsumexp(z[0])]
    assert np.allclose(found.numpy(), np.array([exact]) - np.log(2), rtol=1e-6)
    assert Outputs(((0, 1), (2, 3)), of=4)(z.bfloat16()).dtype == torch.float32
    assert Outputs(((1,), (3,)), of=4)(z.bfloat16()).dtype == torch.bfloat16


@given(st.permutations(range(6)))
def test_restriction_commutes_with_permuting_classes(order: list[int]) -> None:
    z = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    for groups in (((7,), (0,), (3,), (4,), (8,), (1,)), ((7, 2), (0,), (3,), (4, 5), (8,), (1,))):
        permuted = Outputs(tuple(groups[i] for i in order), of=9)
        assert permuted(z).equal(Outputs(groups, of=9)(z)[:, order])


@pytest.mark.parametrize("groups", [((2,), (0,)), ((2, 1), (0,))])
def test_gradients_flow_through_and_only_to_the_outputs_that_count(
    groups: tuple[tuple[int, ...], ...],
) -> None:
    outputs = Outputs(groups, of=4)
    z = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, z)
    (grad,) = torch.autograd.grad(outputs(z)[:, 0].sum(), z)
    restricts = all(len(group) == 1 for group in groups)
    assert bool((grad[:, 3] == 0).all()) == restricts, "a softmax has all outputs in it"


def test_what_is_recorded_tells_mappings_apart_and_not_their_names() -> None:
    a = Outputs(((0,), (1,)), of=3, names=("x", "y", "z"), ref="a")
    b = Outputs(((1,), (0,)), of=3)
    assert json.loads(json.dumps(a.fingerprint()))["outputs"] == "2 of 3 outputs"
    prints = [o.fingerprint()["mapping"]["sha256"] for o in (a, b, Outputs(a.groups, of=4))]
    assert len(set(prints)) == 3
    assert Outputs(a.groups, of=3).fingerprint()["mapping"]["sha256"] == prints[0]


def test_all_outputs_in_order_are_no_restriction() -> None:
    assert PETS.restricted([0, 1, 2, 3]) is None
    permuted = PETS.restricted([1, 0, 2, 3])
    assert permuted is not None
    assert permuted.describe() == "all 4 outputs by name"


@pytest.mark.parametrize("groups", [((0,), ()), ((0,), (3,)), ((-1,), (1,)), ((0, 3), (1,))])
def test_every_class_has_outputs_that_the_network_has(groups: tuple[tuple[int, ...], ...]) -> None:
    place = next(i for i, group in enumerate(groups) if not set(group) <= {0, 1, 2} or not group)
    with pytest.raises(UsageError, match=rf"class {place} has .*; give each class .* of 0 to 2"):
        Outputs(groups, of=3)


def test_classes_that_differ_in_case_alone_are_told_apart_as_they_are_written() -> None:
    letters = LabelSpace.of("", [("A",), ("a",), ("b",)])
    assert letters.places(["a", "B", "A"], where="x") == [1, 2, 0]

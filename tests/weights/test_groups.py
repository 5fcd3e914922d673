"""Which tensors share a row: every tensor has one group, its own, and tied ones have the same."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupmerge.errors import UsageError
from soupmerge.weights.groups import block_of, check_grouping, group_by, rows_of

parts = st.sampled_from(["stem", "layer1", "0", "1", "blocks", "conv", "bn"])
tensors = st.builds(".".join, st.lists(parts, min_size=1, max_size=4))
ends = st.sampled_from([".weight", ".bias", ""])
names_of = st.lists(st.builds(str.__add__, tensors, ends), min_size=1, max_size=8, unique=True)
NAMES = ["a.weight", "a.bias", "b.weight", "b.bias", "c.scale"]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("conv1.weight", "conv1"),
        ("scale", "scale"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("layer1.0.downsample.1.weight", "layer1.0"),
        ("layer10.3.bn.bias", "layer10.3"),
        ("block1.layer.0.conv.weight", "block1.layer.0"),
        ("blocks.7.attn.qkv.weight", "blocks.7"),
        ("stages.2.blocks.5.norm.bias", "stages.2.blocks.5"),
        ("stages.2.downsample.0.weight", "stages.2"),
        ("encoder.layers.3.blocks.1.w", "encoder.layers.3.blocks.1"),
        ("features.0", "features"),
        ("head.fc.weight", "head"),
    ],
)
def test_a_block_ends_at_the_first_number_and_what_is_nested_in_it(name: str, block: str) -> None:
    assert block_of(name) == block


@given(names_of, st.sampled_from(["model", "block", "module", "tensor"]))
def test_groups_are_in_order_and_hold_each_tensor_once(names: list[str], by: str) -> None:
    groups = group_by(by, names)
    assert sorted(n for members in groups.values() for n in members) == sorted(names)
    firsts = [names.index(members[0]) for members in groups.values()]
    assert firsts == sorted(firsts)
    for group, members in groups.items():
        assert list(members) == [n for n in names if n in members]
        for name in members:
            assert (
                group
                == {
                    "model": "model",
                    "block": block_of(name),
                    "module": name.rpartition(".")[0] or "model",
                    "tensor": name,
                }[by]
            )


@given(names_of, st.data())
def test_tied_tensors_share_the_group_of_the_first(names: list[str], data: st.DataObject) -> None:
    """Ties may chain, and may speak of tensors that are not mixed."""
    pair = st.lists(st.sampled_from([*names, "elsewhere"]), min_size=2, max_size=3)
    ties = data.draw(st.lists(pair, max_size=4))
    groups = group_by("tensor", names, ties)
    home = {name: group for group, members in groups.items() for name in members}
    assert sorted(home) == sorted(names)
    classes = [{name} for name in names]
    for tie in ties:
        joined = [c for c in classes if c & set(tie)]
        classes = [c for c in classes if not c & set(tie)] + [set().union(*joined)]
    for tied in filter(None, classes):
        assert {home[name] for name in tied} == {min(tied, key=names.index)}


def test_a_pattern_s_group_holds_what_it_matches_and_the_rest_has_one() -> None:
    groups = group_by("glob=b.*,*a.*", NAMES)
    assert groups == {
        "b.*": ("b.weight", "b.bias"),
        "*a.*": ("a.weight", "a.bias"),
        "rest": ("c.scale",),
    }
    assert group_by("glob=*", NAMES) == {"*": tuple(NAMES)}
    tied = group_by("glob=b.*", NAMES, [("a.bias", "b.bias")])
    assert tied == {"b.*": ("a.bias", "b.weight", "b.bias"), "rest": ("a.weight", "c.scale")}


@given(names_of, st.lists(st.sampled_from(["*", "stem*", "*0*", "*.bias", "layer1.*"]), min_size=2))
def test_a_tensor_that_two_patterns_match_is_named_with_both(
    names: list[str], patterns: list[str]
) -> None:
    doubled = {n: [p for p in patterns if fnmatchcase(n, p)] for n in names}
    doubled = {name: found for name, found in doubled.items() if len(found) > 1}
    by = "glob=" + ",".join(patterns)
    idle = [p for p in patterns if not any(fnmatchcase(n, p) for n in names)]
    if not doubled and not idle:
        assert sum(map(len, group_by(by, names).values())) == len(names)
        return
    with pytest.raises(UsageError) as caught:
        group_by(by, names)
    result = dict(problem.split(": ", 1) for problem in caught.value.problems)
    assert result == {n: " and ".join(map(repr, found)) for n, found in doubled.items()}
    assert doubled or f"{idle[0]!r} matches no tensor" in str(caught.value)


def test_patterns_that_two_tied_tensors_match_overlap() -> None:
    with pytest.raises(UsageError) as caught:
        group_by("glob=a.*,b.*", NAMES, [("a.bias", "b.bias")])
    assert {problem.split(":")[0] for problem in caught.value.problems} == {"a.bias", "b.bias"}


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("blocks", "did you mean 'block'"),
        ("glob=", "unknown grouping"),
        ("glob=a.*,", "unknown grouping"),
        ("a.*", "unknown grouping"),
        ("glob=a.*,rest", "'rest' is the group of tensors that no pattern"),
    ],
)
def test_what_is_no_grouping_is_refused(by: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_grouping(by)


def test_a_pattern_that_matches_nothing_is_named_with_what_is_near() -> None:
    with pytest.raises(UsageError, match=r"'c.scal' matches no tensor; did you mean 'c.scale'\?"):
        group_by("glob=a.*,c.scal", NAMES)


def test_a_statistic_takes_the_row_of_its_module_s_weight_or_of_the_mean() -> None:
    groups = {"one": ["a.weight", "a.bias"], "two": ["b.weight"]}
    names = ["b.running_mean", "b.running_var", "c.running_var", "b.num_batches_tracked"]
    own = {"a.weight": 0, "a.bias": 0, "b.weight": 1}
    statistics = {"b.running_mean": 1, "b.running_var": 1, "c.running_var": 2}
    for policy in ("average", "recalibrate"):
        assert rows_of(groups, [*own, *names], policy) == own | statistics
    assert rows_of(groups, [*own, *names], "base") == own

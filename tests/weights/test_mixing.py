"""The formula's laws, for any coefficients and tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import soupmerge as sm
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.weights.coefficients import parse_weights
from soupmerge.weights.ingredients import mismatches
from soupmerge.weights.mixing import mix_to_file
from soupmerge.weights.recipe import read_recipe
from tests.shared import near

weights_of = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.floats(0.01, 1.0), min_size=k, max_size=k)
)


def pots_of(home: Path, *states: dict[str, torch.Tensor]) -> sm.Ingredients:
    home.mkdir(exist_ok=True)
    for i, state in enumerate(states):
        sm.save(home / f"{i}.safetensors", state, force=True)
    return sm.load(*(home / f"{i}.safetensors" for i in range(len(states))))


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("k", range(3))
def test_a_one_hot_recipe_returns_that_ingredient_bit_for_bit(pots: sm.Ingredients, k: int) -> None:
    recipe = sm.Recipe.of(pots, [float(i == k) for i in range(3)], base=k)
    assert equal(sm.mix(pots, recipe), dict(pots[k]))


@given(weights=weights_of, data=st.data())
def test_a_soup_of_copies_is_the_copy(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float], data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**16))
    state = {"w": torch.randn(7, generator=torch.Generator().manual_seed(seed))}
    pots = pots_of(tmp_path_factory.mktemp("copies"), *[state] * len(weights))
    with pytest.warns(UserWarning, match="same weights"):
        assert len(set(pots.hashes)) == 1
    normal = [w / sum(weights) for w in weights]
    assert equal(sm.mix(pots, sm.Recipe.of(pots, normal)), state)


@given(weights=weights_of, data=st.data())
def test_permuting_ingredients_with_their_columns_changes_nothing_but_rounding(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(weights))))
    states = [{"w": torch.randn(9, generator=torch.Generator().manual_seed(i))} for i in order]
    by_index = [
        {"w": torch.randn(9, generator=torch.Generator().manual_seed(i))} for i in range(len(order))
    ]
    normal = [w / sum(weights) for w in weights]
    home = tmp_path_factory.mktemp("permuted")
    straight = pots_of(home / "a", *by_index)
    permuted = pots_of(home / "b", *states)
    a = sm.mix(straight, sm.Recipe.of(straight, normal))
    b = sm.mix(permuted, sm.Recipe.of(permuted, [normal[i] for i in order]))
    torch.testing.assert_close(a["w"], b["w"], rtol=2e-7, atol=1e-9)


@given(weights=weights_of)
def test_a_soup_lies_between_its_ingredients_and_is_the_float64_sum(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float]
) -> None:
    states = [
        {"w": torch.randn(11, generator=torch.Generator().manual_seed(i))}
        for i in range(len(weights))
    ]
    pots = pots_of(tmp_path_factory.mktemp("between"), *states)
    normal = [w / sum(weights) for w in weights]
    soup = sm.mix(pots, sm.Recipe.of(pots, normal))["w"]
    stack = torch.stack([s["w"] for s in states])
    assert bool((soup >= stack.amin(0)).all() and (soup <= stack.amax(0)).all())
    reference = sum(w * s["w"].double() for w, s in zip(normal, states, strict=True))
    torch.testing.assert_close(soup, reference.float(), rtol=1e-7, atol=0)


def test_equal_rows_are_the_one_group_recipe(pots: sm.Ingredients) -> None:
    row = [0.5, 0.3, 0.2]
    whole = sm.mix(pots, sm.Recipe.of(pots, row))
    for by in ("tensor", "module"):
        groups = pots.groups(by)
        assert len(groups) > 1
        assert equal(sm.mix(pots, sm.Recipe.of(pots, [row] * len(groups), by=by)), whole)


def test_a_mix_of_mixes_is_the_product_of_their_coefficients(
    pots: sm.Ingredients, tmp_path: Path
) -> None:
    first, second = [0.5, 0.25, 0.25], [0.0, 0.5, 0.5]
    states = [sm.mix(pots, sm.Recipe.of(pots, row)) for row in (first, second)]
    nested = pots_of(tmp_path / "nested", *states)
    twice = sm.mix(nested, sm.Recipe.of(nested, [0.75, 0.25]))
    product = [0.75 * a + 0.25 * b for a, b in zip(first, second, strict=True)]
    once = sm.mix(pots, sm.Recipe.of(pots, product))
    for name in once:
        torch.testing.assert_close(twice[name], once[name], rtol=1e-6, atol=1e-7)


def test_buffers_follow_the_policy_and_counters_are_copied(pots: sm.Ingredients) -> None:
    row = [0.5, 0.25, 0.25]
    average = sm.mix(pots, sm.Recipe.of(pots, row, base=2))
    base = sm.mix(pots, sm.Recipe.of(pots, row, buffers="base", base=2))
    mean = next(n for n in pots.infos if n.endswith("running_mean"))
    counter = next(n for n in pots.infos if n.endswith("num_batches_tracked"))
    expected = sum(w * pot[mean].double() for w, pot in zip(row, pots, strict=True))
    assert torch.equal(average[mean], expected.float())
    assert torch.equal(base[mean], pots[2][mean])
    for soup in (average, base):
        assert torch.equal(soup[counter], pots[2][counter])
        assert soup[counter].dtype == torch.int64


def test_ingredients_may_differ_in_their_wrapper_and_dtype(net: nn.Module, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {f"module.{n}": t for n, t in near(net, 1).items()}}, tmp_path / "a.pt"
    )
    half = {n: t.half() if t.is_floating_point() else t for n, t in near(net, 2).items()}
    sm.save(tmp_path / "b.safetensors", half)
    with pytest.warns(UserWarning, match="several dtypes"):
        pots = sm.load(tmp_path / "a.pt", tmp_path / "b.safetensors")
    soup = sm.mix(pots, sm.Recipe.uniform(pots))
    assert {t.dtype for t in soup.values() if t.is_floating_point()} == {torch.float32}
    sm.bind(net, soup)


def test_all_mismatches_are_listed_at_once(net: nn.Module, tmp_path: Path) -> None:
    good, bad = near(net, 1), near(net, 2)
    bad["head.weight"], bad["head.bias"] = torch.ones(7, 16), torch.ones(7)
    bad["extra"] = torch.ones(1)
    del bad["features.0.weight"]
    sm.save(tmp_path / "good.safetensors", good)
    sm.save(tmp_path / "bad.safetensors", bad)
    with pytest.raises(InputError) as caught:
        sm.load(tmp_path / "good.safetensors", tmp_path / "bad.safetensors")
    for words in (
        "head.weight: shape (7, 16)",
        "7 and 10 classes",
        "features.0.weight: missing",
        "extra: not",
    ):
        assert words in str(caught.value)


def test_normalisers_must_agree(tmp_path: Path) -> None:
    for name, mean in (("a", 0.4), ("b", 0.5)):
        sm.save(
            tmp_path / f"{name}.safetensors", {"w": torch.ones(1), "mean": torch.tensor([mean])}
        )
    with pytest.raises(InputError, match="normalisers differ"):
        sm.load(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0.5, 0.5], "3 checkpoints, 2 coefficients"),
        ([0.5, 0.5, 0.5], "sum to 1.5, not 1"),
        ([1.5, -0.25, -0.25], "between 0 and 1"),
        ([float("nan"), 0.5, 0.5], "not all finite"),
    ],
)
def test_coefficients_that_cannot_be_meant(
    pots: sm.Ingredients, row: list[float], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        sm.Recipe.of(pots, row)


@pytest.mark.parametrize("text", ["0,5;1", "abc", "1/0,1", "", "1e400,0"])
def test_text_that_is_no_coefficients(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number"):
        parse_weights(text)


def test_nothing_non_finite_is_written(net: nn.Module, tmp_path: Path) -> None:
    bad = near(net, 2)
    bad["head.bias"][3] = float("nan")
    pots = pots_of(tmp_path / "pots", near(net, 1), bad)
    with pytest.raises(NumericsError, match=r"1.safetensors: .*head.bias: 1 of 10 numbers"):
        mix_to_file(tmp_path / "soup.safetensors", pots, sm.Recipe.uniform(pots))
    assert not (tmp_path / "soup.safetensors").exists()


def test_a_recipe_survives_its_text_and_makes_the_same_bytes(
    pots: sm.Ingredients, tmp_path: Path
) -> None:
    rows = torch.rand(len(pots.mixed), 3, dtype=torch.float64).softmax(1).tolist()
    recipe = sm.Recipe.of(pots, rows, by="tensor", buffers="base", base=1)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    again = read_recipe(tmp_path / "recipe.json")
    assert again == recipe
    mix_to_file(tmp_path / "one.safetensors", pots, recipe)
    mix_to_file(tmp_path / "two.safetensors", pots, again)
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "two.safetensors"
    ).read_bytes()
    carried = sm.load(tmp_path / "one.safetensors")[0].notes_of_soupmerge["recipe"]
    assert carried == recipe.portable().to_json()


def test_mixing_agrees_with_torch_s_averaged_model(pots: sm.Ingredients, net: nn.Module) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net)
    for pot in pots:
        averaged.update_parameters(sm.bind(net, pot))
    soup = sm.mix(pots, sm.Recipe.uniform(pots))
    for name, tensor in averaged.module.named_parameters():
        torch.testing.assert_close(soup[name], tensor, rtol=1e-5, atol=1e-6)


def test_mismatches_of_a_checkpoint_with_itself_are_none(pots: sm.Ingredients) -> None:
    assert mismatches([pots[0], pots[0]]) == {}


def test_a_soup_shares_no_memory_with_its_ingredients(net: nn.Module, tmp_path: Path) -> None:
    for i in (1, 2):
        torch.save(near(net, i), tmp_path / f"{i}.pt")
    pots = sm.load(tmp_path / "1.pt", tmp_path / "2.pt")
    kept = {name: tensor.clone() for name, tensor in pots[0].items()}
    for tensor in sm.mix(pots, sm.Recipe.of(pots, [1.0, 0.0])).values():
        tensor.zero_()
    assert equal(dict(pots[0]), kept)


def test_statistics_without_a_weight_beside_them_take_the_mean_row(tmp_path: Path) -> None:
    states = [
        {
            "a.weight": torch.ones(1) * i,
            "b.weight": torch.ones(1) * i,
            "n.running_mean": torch.ones(1) * i,
        }
        for i in (0, 1)
    ]
    pots = pots_of(tmp_path / "pots", *states)
    soup = sm.mix(pots, sm.Recipe.of(pots, [[1.0, 0.0], [0.5, 0.5]], by="tensor"))
    assert [float(soup[n]) for n in sorted(soup)] == [0.0, 0.5, 0.25]


def test_a_head_may_be_copied_or_left_out(net: nn.Module, tmp_path: Path) -> None:
    first, second = near(net, 1), near(net, 2)
    second["head.weight"], second["head.bias"] = torch.ones(7, 16), torch.ones(7)
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    sm.save(paths[0], first)
    sm.save(paths[1], second)
    with pytest.raises(InputError, match="--head base"):
        sm.load(*paths)
    kept = sm.load(*paths, head="base", base=1)
    soup = sm.mix(kept, sm.Recipe.uniform(kept, base=1))
    assert torch.equal(soup["head.weight"], second["head.weight"])
    skipped = sm.load(*paths, head="skip")
    assert not [n for n in sm.mix(skipped, sm.Recipe.uniform(skipped)) if n.startswith("head")]
    recipe = sm.Recipe.uniform(kept, base=1)
    assert sm.Recipe.from_json(recipe.to_json()) == recipe


def test_excluded_tensors_come_from_the_base(pots: sm.Ingredients) -> None:
    paths = [c.ref for c in pots]
    chosen = sm.load(*paths, exclude=["features.*"], base=2)
    soup = sm.mix(chosen, sm.Recipe.uniform(chosen, base=2))
    whole = sm.mix(pots, sm.Recipe.uniform(pots, base=2))
    for name in soup:
        expected = pots[2][name] if name.startswith("features.") else whole[name]
        assert torch.equal(soup[name], expected)


def test_affine_coefficients_extrapolate_and_must_be_asked_for(tmp_path: Path) -> None:
    pots = pots_of(tmp_path / "p", {"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])})
    assert sm.mix(pots, sm.Recipe.of(pots, [2.0, -1.0], affine=True))["w"].item() == -1
    with pytest.raises(UsageError, match="sum to 0, not 1"):
        sm.Recipe.of(pots, [1.0, -1.0], affine=True)
    variances = [{"w": torch.ones(1), "bn.running_var": torch.tensor([v])} for v in (1.0, 3.0)]
    pots = pots_of(tmp_path / "v", *variances)
    with pytest.raises(NumericsError, match=r"bn.running_var: the soup's variance"):
        sm.mix(pots, sm.Recipe.of(pots, [2.0, -1.0], affine=True))


def test_shards_hold_what_one_file_holds(pots: sm.Ingredients, tmp_path: Path) -> None:
    recipe = sm.Recipe.uniform(pots)
    mix_to_file(tmp_path / "one.safetensors", pots, recipe)
    mix_to_file(tmp_path / "many", pots, recipe, shard_bytes=4000)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    one, many = sm.load(tmp_path / "one.safetensors")[0], sm.load(tmp_path / "many")[0]
    assert equal(dict(one), dict(many))
    assert one.notes_of_soupmerge == many.notes_of_soupmerge
    assert many.sha256 != one.sha256


def test_groups_may_be_blocks_or_patterns(pots: sm.Ingredients) -> None:
    blocks = pots.groups("block")
    assert sum(map(len, blocks.values())) == len(pots.mixed)
    by_glob = pots.groups("glob=head.*")
    assert set(by_glob) == {"head.*", "rest"}
    rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    soup = sm.mix(pots, sm.Recipe.of(pots, rows, by="glob=head.*"))
    assert torch.equal(soup["head.weight"], pots[0]["head.weight"])
    assert torch.equal(soup[by_glob["rest"][0]], pots[1][by_glob["rest"][0]])


def test_a_soup_of_soups_tells_its_family(pots: sm.Ingredients, tmp_path: Path) -> None:
    from soupmerge.weights.lineage import family_of

    mix_to_file(tmp_path / "soup.safetensors", pots, sm.Recipe.uniform(pots))
    both = sm.load(tmp_path / "soup.safetensors", pots[0].ref)
    mix_to_file(tmp_path / "second.safetensors", both, sm.Recipe.of(both, [0.25, 0.75]))
    tree = family_of(sm.load(tmp_path / "second.safetensors")[0])
    assert [p.ref for p in tree.parents] == ["soup.safetensors", "a.safetensors"]
    assert tree.roots() == {c.sha256 for c in pots}
    assert "0.25, 0.75" in next(tree.lines())

"""The plans that ``--dry-run`` prints: what would be read, computed and written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.label_spaces.outputs import in_words

if TYPE_CHECKING:
    from soupmerge.soups.judge.entries import AnyEntry


def print_mix(
    out: str, ingredients: sm.Ingredients, recipe: sm.Recipe, shard: int | None, *, as_json: bool
) -> None:
    """Print what mixing *ingredients* by *recipe* into *out* would need."""
    from soupmerge.weights.mixing import soup_infos
    from soupmerge.weights.saving import memory_of
    from soupmerge.weights.writing import layout, shards_of

    infos = layout(soup_infos(ingredients, recipe))
    size = sum(info.bytes for info in infos.values())
    files = len(shards_of(infos, shard)) if shard else 1
    free = shutil.disk_usage(Path(out).resolve().parent).free
    if as_json:
        plan = {"out": out, "tensors": len(infos), "bytes": size, "files": files}
        memory = {"memory": memory_of(ingredients), "free": free}
        show.dump({**plan, **memory, "recipe": recipe.to_json()})
        return
    copied = show.counted(len(ingredients.selection.copied), "tensor")
    skipped = show.counted(len(ingredients.selection.skipped), "tensor")
    tensors, read = (
        show.counted(len(infos), "tensor"),
        sum(s.size for c in ingredients for s in c.sources),
    )
    rows = [
        [name, f"coefficient {w:.6g}"]
        for name, w in zip(ingredients.names, recipe.mean_weights, strict=True)
    ]
    rows += [
        ["groups", f"{len(recipe.groups)} (by {recipe.by}); coefficients above are means"],
        ["statistics", recipe.buffers],
        ["copied, left out", f"{copied}, {skipped}"],
        ["would write", f"{out}: {tensors}, {size:,} bytes, {show.counted(files, 'file')}"],
        ["would read", f"{read:,} bytes, twice (once to hash)"],
        ["memory", f"about {memory_of(ingredients) / 2**20:,.0f} MiB beside torch itself"],
        ["free disk space", f"{free:,} bytes" + ("" if free > size else ": too little")],
    ]
    show.table(["plan", ""], rows)


def print_eval(due: Sequence[tuple[AnyEntry, sm.Benchmark]]) -> None:
    """Print which network would be judged on which data."""
    data = [benchmark.data.fingerprint() for _, benchmark in due]
    columns: dict[str, list[Any]] = {"network": [entry.ref for entry, _ in due]}
    if len({each["ref"] for each in data}) > 1:
        columns["data"] = [each["ref"] for each in data]
    if "resolution" in data[0]:
        columns["resolution"] = [each["resolution"] for each in data]
    columns["images"] = [each["n"] for each in data]
    if any(outputs := [in_words(each) for each in data]):
        columns["outputs"] = [words or "all" for words in outputs]
    columns["threats"] = [len(benchmark.attacks) for _, benchmark in due]
    show.table(list(columns), list(zip(*columns.values(), strict=True)))

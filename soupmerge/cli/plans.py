"""What ``--dry-run`` prints: what would be read, held and written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soupmerge as sm
from soupmerge.cli import show

if TYPE_CHECKING:
    from soupmerge.soups.judge.entries import AnyEntry


def show_mix(
    out: str, ingredients: sm.Ingredients, recipe: sm.Recipe, shard: int | None, *, as_json: bool
) -> None:
    """Print what mixing *ingredients* by *recipe* into *out* would take."""
    from soupmerge.weights.mixing import soup_infos
    from soupmerge.weights.saving import memory_of
    from soupmerge.weights.writing import layout, shards_of

    weights = [f"{w:.6g}" for w in recipe.mean_weights]
    kept = len(ingredients.selection.copied)
    rows = [[name, f"coefficient {w}"] for name, w in zip(ingredients.names, weights, strict=True)]
    infos = layout(soup_infos(ingredients, recipe))
    size = sum(info.bytes for info in infos.values())
    files = len(shards_of(infos, shard)) if shard else 1
    free = shutil.disk_usage(Path(out).resolve().parent).free
    if as_json:
        plan = {"out": out, "tensors": len(infos), "bytes": size, "files": files}
        memory = {"memory": memory_of(ingredients), "free": free}
        show.dump({**plan, **memory, "recipe": recipe.to_json()})
        return
    rows += [
        ["groups", f"{len(recipe.groups)} (by {recipe.by}); coefficients above are means"],
        ["statistics", recipe.buffers],
        ["copied, left out", f"{kept} tensors, {len(ingredients.selection.skipped)} tensors"],
        ["would write", f"{out}: {len(infos)} tensors, {size:,} bytes, {files} file(s)"],
        [
            "would read",
            f"{sum(s.size for c in ingredients for s in c.sources):,} bytes, twice (to hash)",
        ],
        ["memory", f"about {memory_of(ingredients) / 2**20:,.0f} MiB beside torch itself"],
        ["free there", f"{free:,} bytes" + ("" if free > size else ": too few")],
    ]
    show.table(["plan", ""], rows)


def show_eval(due: Sequence[tuple[AnyEntry, sm.Benchmark]]) -> None:
    """Print which network would be judged on what."""
    prints = [benchmark.data.fingerprint() for _, benchmark in due]
    columns: dict[str, list[Any]] = {"network": [entry.ref for entry, _ in due]}
    if len({told["ref"] for told in prints}) > 1:
        columns["data"] = [told["ref"] for told in prints]
    if "resolution" in prints[0]:
        columns["resolution"] = [told["resolution"] for told in prints]
    columns["images"] = [told["n"] for told in prints]
    columns["threats"] = [len(benchmark.attacks) for _, benchmark in due]
    show.table(list(columns), list(zip(*columns.values(), strict=True)))

"""Pulling one reference from its site: a row that describes it, and a copy of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupmerge.cli import show
from soupmerge.cli.options.ingredients import print_notes
from soupmerge.errors import InputError, NetworkError, SoupmergeError, UnsafeError, UsageError

if TYPE_CHECKING:
    from soupmerge.sources.hub import Pulled


def pull(
    ref: str, out: str | None, *, force: bool, locked: bool
) -> tuple[dict[str, Any], SoupmergeError | None]:
    """Pull *ref*, and return a row that describes it, and why its weights cannot be read, if so."""
    if ref.startswith("rb:"):
        return _from_robustbench(ref, out, force), None
    pulled = _from_hub(ref, locked)
    if out is not None:
        if len(pulled.holding) > 1:
            fix = f"soupmerge convert {pulled.ref} -o {out}"
            raise UsageError("the weights are in several shards", where="-o", fix=fix)
        _copy(pulled.weights, out, force, pulled.files)
    row = _row(ref, pulled)
    try:
        checkpoint = pulled.checkpoint()
    except (InputError, UnsafeError) as error:
        return row, error
    print_notes([checkpoint])
    return row | {"network": checkpoint.model}, None


def _from_robustbench(ref: str, out: str | None, force: bool) -> dict[str, Any]:
    from soupmerge.sources.robustbench import checkpoints, zoo

    with show.Progress() as progress:
        checkpoint = checkpoints.opened(ref, progress=progress)
    print_notes([checkpoint])
    if out is not None:
        _copy(checkpoint.files[0], out, force, checkpoint.files)
    return {
        "ref": ref,
        "sha256": checkpoint.sha256,
        "bytes": sum(source.size for source in checkpoint.sources),
        "licence": zoo.entry(ref).licence,
        "network": checkpoint.model,
        "path": str(checkpoint.files[0]),
    }


def _from_hub(ref: str, locked: bool) -> Pulled:
    from soupmerge.sources import connections, hub, timm_weights
    from soupmerge.sources.hub.refs import PREFIX, HubRef

    if not ref.startswith((PREFIX, timm_weights.PREFIX)):
        fix = "write hf-hub:owner/name, timm:name or rb:DATA/THREAT/NAME"
        raise UsageError("is not on a site that can be pulled from", where=ref, fix=fix)
    at_timm = ref.startswith(timm_weights.PREFIX)
    wanted = timm_weights.on_hub(ref) if at_timm else HubRef.parse(ref)
    if not connections.is_offline():
        with show.Progress() as progress:
            return hub.pull(wanted, locked=locked, progress=progress)
    cached = hub.cached(wanted)
    if cached is None:
        fix = "pull it where there is a network"
        raise NetworkError("is not in the cache, and no site may be asked", where=ref, fix=fix)
    return cached


def _row(ref: str, pulled: Pulled) -> dict[str, Any]:
    from soupmerge.storage.reading import StableFile
    from soupmerge.weights.files import sha256_of

    files = [StableFile.seen(path) for path in pulled.holding]
    return {
        "ref": ref,
        "pinned": str(pulled.ref),
        "commit": pulled.ref.revision,
        "sha256": sha256_of([file.sha256() for file in files]),
        "bytes": sum(file.size for file in files),
        "licence": pulled.licence,
        "network": None,
        "path": str(pulled.weights),
    }


def _copy(path: Path, out: str, force: bool, inputs: Iterable[Path]) -> None:
    from soupmerge.storage import commit
    from soupmerge.storage.reading import StableFile

    if Path(out).suffix != path.suffix:
        what = f"cannot copy {path.name} under another suffix"
        raise UsageError(what, where=out, fix=f"name a {path.suffix} file")
    commit.check_free(out, force=force, inputs=inputs)
    with commit.committed(out, force=force) as file:
        for chunk in StableFile.seen(path).chunks():
            file.write(chunk)

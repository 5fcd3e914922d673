"""One reference, pulled from its site: what to tell of it, and a copy of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupmerge.cli import show
from soupmerge.errors import InputError, NetworkError, SoupmergeError, UnsafeError, UsageError

if TYPE_CHECKING:
    from soupmerge.sources.hub import Pulled


def pulled(
    ref: str, out: str | None, *, force: bool, locked: bool
) -> tuple[dict[str, Any], SoupmergeError | None]:
    """Return what to tell of *ref*, and why its weights, though pulled, cannot be read."""
    if ref.startswith("rb:"):
        return _from_robustbench(ref, out, force), None
    found = _from_hub(ref, locked)
    if out is not None:
        _copy(found, out, force)
    row = _row(ref, found)
    try:
        checkpoint = found.checkpoint()
    except (InputError, UnsafeError) as error:
        return row, error
    for note in checkpoint.notes:
        show.note(f"{ref}: {note}")
    return row | {"network": checkpoint.model}, None


def _from_robustbench(ref: str, out: str | None, force: bool) -> dict[str, Any]:
    """Return what to tell of *ref*, which is pulled if it is not here."""
    from soupmerge.sources.robustbench import checkpoints, zoo

    with show.Progress() as progress:
        found = checkpoints.opened(ref, progress=progress)
    for note in found.notes:
        show.note(f"{ref}: {note}")
    if out is not None:
        _copied(found.files[0], out, force, found.files)
    return {
        "ref": ref,
        "sha256": found.sha256,
        "bytes": sum(source.size for source in found.sources),
        "licence": zoo.entry(ref).licence,
        "network": found.model,
        "path": str(found.files[0]),
    }


def _from_hub(ref: str, locked: bool) -> Pulled:
    from soupmerge.sources import connections, hub, timm_weights
    from soupmerge.sources.hub.refs import PREFIX, HubRef

    if not ref.startswith((PREFIX, timm_weights.PREFIX)):
        fix = "write hf-hub:owner/name, timm:name or rb:DATA/THREAT/NAME"
        raise UsageError("is at no site that can be pulled from", where=ref, fix=fix)
    at_timm = ref.startswith(timm_weights.PREFIX)
    wanted = timm_weights.on_hub(ref) if at_timm else HubRef.parse(ref)
    if not connections.is_offline():
        with show.Progress() as progress:
            return hub.pull(wanted, locked=locked, progress=progress)
    found = hub.cached(wanted)
    if found is None:
        fix = "run it where there is a network"
        raise NetworkError("is not in the cache, and no site may be asked", where=ref, fix=fix)
    return found


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


def _copy(pulled: Pulled, out: str, force: bool) -> None:
    if len(pulled.holding) > 1:
        what, fix = "it is in several shards", f"soupmerge convert {pulled.ref} -o {out}"
        raise UsageError(what, where="-o", fix=fix)
    _copied(pulled.weights, out, force, pulled.files)


def _copied(path: Path, out: str, force: bool, inputs: Iterable[Path]) -> None:
    from soupmerge.storage import commit
    from soupmerge.storage.reading import StableFile

    if Path(out).suffix != path.suffix:
        what = f"is to hold {path.name}, as it is"
        raise UsageError(what, where=out, fix=f"name a {path.suffix} file")
    commit.check_free(out, force=force, inputs=inputs)
    with commit.committed(out, force=force) as file:
        for part in StableFile.seen(path).chunks():
            file.write(part)

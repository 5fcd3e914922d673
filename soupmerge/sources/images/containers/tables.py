"""Tables of images in Parquet or Arrow files, whose images are copied into the cache once.

Parquet packs rows in groups, of which single ones cannot be read. The copy holds the images of one
file, one after the other, so that they can be read in any order.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from soupmerge.errors import (
    InputError,
    OutputError,
    SoupmergeError,
    UnsafeError,
    UsageError,
    enumerated,
    near_miss,
    short_repr,
)
from soupmerge.sources import cache
from soupmerge.sources.images.containers.features import names_of, of_type
from soupmerge.sources.images.containers.image_files import require_size
from soupmerge.sources.images.containers.kept_arrays import Arrays, kept, key_of, packed, unpacked
from soupmerge.storage import commit
from soupmerge.storage.reading import StableFile, parse_json

Batches: TypeAlias = Callable[[list[str]], Iterable[Any]]

INSTALL = "pip install 'soupmerge[datasets]'"
NOTED = 1 << 30
"""Bytes of a file of which copying takes so long that it is told."""
ROWS = 64
"""Rows that are in memory at once."""
UNPACKED = 1 << 30
"""Bytes that a file may always unpack to, however small it is packed."""


class Table(NamedTuple):
    """The images of a table.

    Attributes:
        copy: a file that holds them one after the other.
        sizes: ``(N,)``: their sizes in bytes.
        labels: ``(N,)``: their labels as they are written.
        classes: the names of the classes; empty if they are unknown.
    """

    copy: StableFile
    sizes: NDArray[np.int64]
    labels: list[str]
    classes: list[str]


def table(file: StableFile, image: str | None, label: str | None) -> Table:
    """Return the images of the Parquet or Arrow file *file*, from the cache if they are there.

    Args:
        file: the table.
        image: the column of images; default the one that is described as such.
        label: the column of labels; default the one that is described as such, or ``label``.

    Raises:
        InputError: it cannot be read, or rows have no image or label.
        UnsafeError: it unpacks to many times its size.
        UsageError: there is no such column.
        OutputError: pyarrow is not installed, or the copy cannot be written.
    """
    what = f"table, image {image}, label {label}"
    path = cache.home() / "tables" / f"{key_of(file, what)}.images"
    make = partial(_copied, file, path, image, label)
    found = kept("tables", file, what, make)
    if not path.is_file() or path.stat().st_size != found["sizes"].sum():
        found = make()
    labels, classes = unpacked(found["labels"]), unpacked(found["classes"])
    return Table(StableFile.seen(path), found["sizes"], labels, classes)


def _copied(file: StableFile, path: Path, image: str | None, label: str | None) -> Arrays:
    """Copy the images of *file* to *path*, and return their sizes, labels and classes."""
    _require_pyarrow(file)
    with commit.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if file.size > NOTED:
        warnings.warn(f"{file.path}: copying its images to {path.parent}, once", stacklevel=2)
    with _reading(file), _opened(file) as (schema, batches):
        image, label, classes = _columns(schema, image, label, file)
        rows = _rows(file, batches([image, label]), image, label)
        with commit.committed(path, force=True, room=file.size) as out:
            sizes, labels = _copy(rows, out, file)
    found = np.array(sizes, np.int64)
    return {"sizes": found, "labels": packed(labels), "classes": packed(classes)}


def _require_pyarrow(file: StableFile) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        what = "is a table, for which pyarrow is needed, and it is not installed"
        raise OutputError(what, where=file.path, fix=INSTALL) from error


@contextlib.contextmanager
def _reading(file: StableFile) -> Iterator[None]:
    """Turn errors of the library in the block, which are about *file*, into soupmerge's."""
    from pyarrow import ArrowException

    try:
        yield
    except SoupmergeError:
        raise
    except (ArrowException, OSError, ValueError, KeyError) as error:
        what = f"is not a table in Parquet or Arrow: {error}"
        raise InputError(what, where=file.path, fix="download or write it again") from error


@contextlib.contextmanager
def _opened(file: StableFile) -> Iterator[tuple[Any, Batches]]:
    """Open *file*, and give its schema and a function from columns to batches of `ROWS` rows."""
    import pyarrow
    from pyarrow import ipc, parquet

    head, path = file.read(0, 6), str(file.path)
    if head.startswith(b"PAR1"):
        with parquet.ParquetFile(path) as opened:
            yield opened.schema_arrow, partial(opened.iter_batches, ROWS, None)
        return
    with pyarrow.OSFile(path) as raw:
        opened = ipc.open_file(raw) if head == b"ARROW1" else ipc.open_stream(raw)
        is_file = head == b"ARROW1"
        whole = map(opened.get_batch, range(opened.num_record_batches)) if is_file else opened
        yield (
            opened.schema,
            lambda columns: (
                batch.select(columns).slice(start, ROWS)
                for batch in whole
                for start in range(0, batch.num_rows, ROWS)
            ),
        )


def _rows(
    file: StableFile, batches: Iterable[Any], image: str, label: str
) -> Iterator[tuple[Any, Any]]:
    """Yield the image and the label of each row."""
    with _reading(file):
        for batch in batches:
            batch.validate(full=True)  # lengths in a file may lead out of its buffers
            columns = (batch.column(name).to_pylist() for name in (image, label))
            yield from zip(*columns, strict=True)


def _columns(
    schema: Any, image: str | None, label: str | None, file: StableFile
) -> tuple[str, str, list[str]]:
    """Return the columns of images and of labels, and the names of the classes.

    They are the only ones that are described as such, if they are not given. Without descriptions,
    images are structures with bytes, and labels are called ``label``.
    """
    features: Any = None
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
        features = parse_json(schema.metadata[b"huggingface"].decode())["info"]["features"]
    structures = [field.name for field in schema if _has_bytes(field.type)]
    images = of_type(features, "Image") or structures
    labels = of_type(features, "ClassLabel") or [n for n in schema.names if n == "label"]
    image = _column("image", image, images, schema.names, file)
    label = _column("label", label, labels, schema.names, file)
    return image, label, names_of(features, label) or []


def _has_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and kind.get_field_index("bytes") >= 0


def _column(
    what: str, asked: str | None, found: Sequence[str], names: Sequence[str], file: StableFile
) -> str:
    if asked is not None:
        if asked in names:
            return asked
        raise UsageError(f"no column {asked!r}", where=file.path, fix=near_miss(asked, names))
    if len(found) == 1:
        return found[0]
    have = f"several columns of {what}s" if found else f"no column that is described as {what}s"
    fix = f"name one with ?{what}=COLUMN: {enumerated(found or names)}"
    raise InputError(f"has {have}", where=file.path, fix=fix)


def _copy(
    rows: Iterable[tuple[Any, Any]], out: BinaryIO, file: StableFile
) -> tuple[list[int], list[str]]:
    """Write the images of *rows* to *out*, and return their sizes and labels."""
    sizes: list[int] = []
    labels: list[str] = []
    problems: list[str] = []
    written, most = 0, max(UNPACKED, 100 * file.size)
    for i, (image, label) in enumerate(rows):
        data: Any = image.get("bytes") if isinstance(image, dict) else image
        if problem := _problem(image, data, label):
            problems.append(f"row {i} {problem}")
            continue
        require_size(len(data), f"{file.path}: row {i}")
        if (written := written + len(data)) > most:
            what = f"has {file.size:,} bytes, and its images more than {most:,}"
            raise UnsafeError(what, where=file.path, fix="write it again, or give a folder")
        out.write(data)
        sizes.append(len(data))
        labels.append(str(label))
    if problems:
        fix = "leave these rows out, or write the table with the bytes of all images"
        what = "has rows without an image or a label"
        raise InputError(what, problems=problems, where=file.path, fix=fix)
    return sizes, labels


def _problem(image: Any, data: Any, label: Any) -> str:
    """Return what is wrong with a row; empty if nothing is."""
    if not isinstance(data, bytes):
        names_file = isinstance(image, dict) and image.get("path")
        return f"names a file, {short_repr(image['path'])}" if names_file else "has no image"
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        return f"has no label, but {short_repr(label)}"
    return "has a label with a null character" if "\0" in str(label) else ""

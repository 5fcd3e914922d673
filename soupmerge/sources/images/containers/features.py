"""Columns of data sets as Hugging Face describes them, in ``dataset_info.json`` or in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_type(features: Any, kind: str) -> list[str]:
    """Return the columns that are described as of *kind*, such as ``Image`` or ``ClassLabel``.

    Example:
        >>> of_type({"image": {"_type": "Image"}, "label": {"_type": "ClassLabel"}}, "Image")
        ['image']
    """
    if not isinstance(features, Mapping):
        return []
    return [
        str(name)
        for name, feature in features.items()
        if isinstance(feature, Mapping) and feature.get("_type") == kind
    ]


def names_of(features: Any, column: str) -> list[str] | None:
    """Return the names of the classes of *column*, if they are described."""
    if column not in of_type(features, "ClassLabel"):
        return None
    names = features[column].get("names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list and names else None

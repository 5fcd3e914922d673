"""Repositories of the Hub by their written form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from soupmerge.errors import SoupmergeError
from soupmerge.sources.hub.refs import HubRef
from soupmerge.sources.refs import opened
from tests.shared import Outcome
from tests.sources.hub_server import Hub

Typed = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file"),
    [
        ("hf-hub:a/b", "a/b", "main", None),
        ("hf-hub:a-1/b.c_d@v1.0", "a-1/b.c_d", "v1.0", None),
        ("hf-hub:a/b@refs/pr/3:sub/x.pt", "a/b", "refs/pr/3", "sub/x.pt"),
        ("hf-hub:a/b:x y.safetensors", "a/b", "main", "x y.safetensors"),
    ],
)
def test_references_read_as_they_are_written(
    text: str, repo: str, revision: str, file: str | None
) -> None:
    ref = HubRef.parse(text)
    assert (ref.repo, ref.revision, ref.file) == (repo, revision, file)
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *((f"hf-hub:{t}", 2) for t in ("", "a", "a/b/c", "a/", "a/b@", "a/b:", "../b", "a/..")),
        *((f"hf-hub:a/b:{t}", 4) for t in ("../x", "/etc/x", "x/../../y", "C:\\x", "a\\b", "x\0y")),
        ("hf-hub:a/b@../../x", 4),
        ("hf-hub:a/b@/x", 4),
        ("hf-hub:a/b:x/./y//z", 4),
    ],
)
def test_a_reference_that_leads_out_is_refused_unasked(site: Hub, text: str, status: int) -> None:
    with pytest.raises(SoupmergeError) as caught:
        opened(text)
    assert caught.value.exit_status == status
    assert repr(text)[1:-1].split(":")[0] in str(caught.value)
    assert not site.asked

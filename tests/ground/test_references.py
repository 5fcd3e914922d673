"""References: shortened, unique in a table, and without folders where they are published."""

from __future__ import annotations

import pytest

from soupmerge.references import is_at_site, portable, short_name, unique_names, without_folders


@pytest.mark.parametrize(
    ("ref", "site"),
    [
        ("hf-hub:me/net", True),
        ("timm:vit", True),
        ("rb:cifar10/Linf/X", True),
        ("a.pt", False),
        ("/a/b.pt", False),
        ("C:\\a.pt", False),
        ("c:/a.pt", False),
        ("hf-hub:/etc", False),
        ("a:b", False),
        ("Hub:x", False),
        ("x/timm:vit", False),
    ],
)
def test_a_site_is_known_by_its_name(ref: str, site: bool) -> None:
    assert is_at_site(ref) is site


@pytest.mark.parametrize(
    ("ref", "short"),
    [
        ("folder:/home/me/cats", "folder:cats"),
        ("folder:/home/me/cats/", "folder:cats"),
        ("folder:cats", "folder:cats"),
        ("blur-3:folder:/home/me/cats", "blur-3:folder:cats"),
        ("npz:../x.npz", "npz:x.npz"),
        ("cifar10", "cifar10"),
        ("/home/me/a.pt", "a.pt"),
        ("package.module:function", "package.module:function"),
        ("folder:/home/me/cats?resize=8&crop=4", "folder:cats?resize=8&crop=4"),
        ("folder:/home/me/what?", "folder:what?"),
        ("folder:/me/cats?list=/me/a.txt&classes=../b.txt", "folder:cats?list=a.txt&classes=b.txt"),
        ("folder:/me/cats?preprocessing=rb:a/Linf/X", "folder:cats?preprocessing=rb:a/Linf/X"),
        ("wds:/me/shards/{000..147}.tar?label=y", "wds:{000..147}.tar?label=y"),
        ("hf:me/photos@main:fine?label=y", "hf:me/photos@main:fine?label=y"),
        ("blur-3:hf:me/photos", "blur-3:hf:me/photos"),
        ("hf:/home/me/photos.parquet", "hf:photos.parquet"),
        ("hf:../me/photos", "hf:photos"),
        ("hf:data/me/photos", "hf:photos"),
    ],
)
def test_a_published_reference_reveals_no_folder(ref: str, short: str) -> None:
    assert without_folders(ref) == short


@pytest.mark.parametrize(
    ("ref", "published", "short"),
    [
        ("/home/me/run/soup.safetensors", "soup.safetensors", "run"),
        ("soup.safetensors", "soup.safetensors", "soup"),
        ("/soup.pt", "soup.pt", "soup"),
        ("a/b.c.pt", "b.c.pt", "b.c"),
        ("soup/net.pt", "net.pt", "net"),
        ("hf-hub:me/net@v1", "hf-hub:me/net@v1", "net@v1"),
        ("", "", ""),
        ("/", "", "/"),
    ],
)
def test_a_file_has_a_portable_and_a_short_name(ref: str, published: str, short: str) -> None:
    assert (portable(ref), short_name(ref)) == (published, short)


def test_unique_names_are_in_order_and_differ() -> None:
    refs = ["a/x.pt", "b/x.pt", "a/x.pt", "y", f"hf-hub:me/net@{'0a' * 20}", "c/y"]
    assert unique_names(refs) == ("x", "b/x", "a/x", "y", "net@0a0a0a0", "c/y")
    assert unique_names(["a/x.pt"] * 4) == ("x", "a/x", "a/x#3", "a/x#4")

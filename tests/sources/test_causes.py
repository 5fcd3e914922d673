"""Why a site cannot be reached, in words: each kind of error, bare, wrapped and with a proxy."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from urllib.error import URLError

import pytest

from soupmerge.sources.connections import cause

ADDRESS = "https://example.org/net.pt"


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    return error


def tls(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "x")
    error.reason = reason
    return error


CAUSES = {
    "untrusted": (untrusted(), "its certificate is not trusted{} (self-signed certificate)"),
    "tls": (tls("WRONG_VERSION"), "no secure connection can be made{} (WRONG_VERSION)"),
    "tls alone": (tls(None), "no secure connection can be made{} (TLS)"),
    "refused": (ConnectionRefusedError(111, "x"), "the connection is refused{}"),
    "timeout": (TimeoutError("x"), "it does not answer in time{}"),
    "reset": (ConnectionResetError(104, "x"), "the connection was cut{}"),
    "half": (http.client.IncompleteRead(b"x"), "the connection was cut{}"),
    "system": (OSError(errno.ENETUNREACH, "x"), "Network is unreachable{}"),
    "other": (ValueError("x"), "the answer cannot be understood{} (ValueError)"),
}


@pytest.mark.parametrize(("error", "words"), CAUSES.values(), ids=CAUSES)
def test_every_kind_of_error_has_its_words(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cause(error, ADDRESS) == words.format("")
    for wrapper in (RuntimeError("y"), Exception("y")):
        wrapper.__cause__ = error
        kind = "Exception" if type(wrapper) is Exception else "RuntimeError"
        assert cause(wrapper, ADDRESS) == words.format("").replace("ValueError", kind)
    if isinstance(error, OSError):
        assert cause(URLError(error), ADDRESS) == words.format("")
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example:3128/")
    through = " through the proxy proxy.example:3128"
    assert cause(error, ADDRESS) == words.format(through)
    assert cause(error, "http://example.org") == words.format("")  # another scheme, no proxy
    monkeypatch.setenv("no_proxy", "example.org")
    assert cause(error, ADDRESS) == words.format("")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (socket.EAI_AGAIN, "no name server answers for {}"),
        (socket.EAI_NONAME, "there is no host {}"),
    ],
)
def test_names_are_those_of_whom_was_looked_for(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = socket.gaierror(number, "x")
    assert cause(error, ADDRESS) == words.format("example.org")
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    assert cause(error, ADDRESS) == words.format("proxy.example:3128")


@pytest.mark.parametrize("said", ["Tunnel connection failed: 403 Forbidden", "407 Auth", "x 403"])
def test_a_proxy_that_refuses_is_named_with_its_status(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cause(OSError(said), ADDRESS) == "the answer cannot be understood (OSError)"
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    words = cause(OSError(said), ADDRESS)
    status = "407" if said.startswith("407") else "403"
    refused = f"the proxy proxy.example:3128 refuses (status {status})"
    assert (words == refused) == (not said.startswith("x")), words

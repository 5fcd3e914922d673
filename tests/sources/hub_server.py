"""A stand-in for the Hub on this machine: what its client asks for, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import safetensors.torch
import torch

import soupmerge as sm

TOKEN = "hf_secretOfTheseTests"
NET = "digits-cnn?width=2"
LARGE = (".safetensors", ".bin", ".pt", ".pth", ".parquet")
"""Names of files that the Hub keeps in its large file storage, behind a redirect."""


def sha1_of_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """Commits by their hash, and what branches stand for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    licence: str | None = None
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        files_text = json.dumps([[n, sha1_of_blob(d)] for n, d in sorted(files.items())])
        sha = hashlib.sha1(f"{files_text}{len(self.commits)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha


@dataclass
class Asked:
    method: str
    host: str
    path: str
    token: str | None


class Stall:
    """Holds an answer back: *reached* once there is one to hold, until *over*."""

    def __init__(self) -> None:
        self.reached, self.over = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        self.over.wait(60)


@dataclass
class Hub:
    """The state of the site; *faults* maps a name to what the handler does with it."""

    repos: dict[str, Repo] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    storage: str = ""

    def add(self, name: str, files: Mapping[str, bytes], **how: Any) -> str:
        branch = how.pop("branch", "main")
        repo = self.repos.setdefault(name, Repo())
        for key, value in how.items():
            setattr(repo, key, value)
        sha = repo.commit(files, branch)
        self.stored |= {hashlib.sha256(data).hexdigest(): data for data in files.values()}
        return sha


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that had enough
            super().handle()

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str) -> None:
        # Like a server for debugging, it repeats what it was sent: no client may show that.
        body = json.dumps({"error": f"{code}: you sent {self.headers.get('Authorization')}"})
        self.answer(status, body.encode(), X_Error_Code=code, X_Error_Message=code)

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization")
        self.hub.asked.append(Asked(self.command, self.headers["Host"], url.path, token))
        if "status" in self.hub.faults:
            self.refuse(self.hub.faults["status"], "Broken")
            return
        for pattern, act in ROUTES:
            if match := re.fullmatch(pattern, url.path):
                act(self, body, *map(unquote, match.groups()))
                return
        self.refuse(404, "NoRoute")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def found(self, name: str, revision: str) -> tuple[Repo, str] | None:
        """Return the repository and its commit, or answer that this cannot be."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.headers.get("Authorization")):
            self.refuse(401, "RepoNotFound")
            return None
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            self.refuse(404, "RevisionNotFound")
            return None
        return repo, sha

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        if not (found := self.found(name, revision)):
            return
        repo, sha = found
        siblings = []
        for file, data in repo.commits[sha].items():
            sibling: dict[str, Any] = {"rfilename": file, "size": len(data)}
            sibling["blobId"] = sha1_of_blob(data)
            if file.endswith(LARGE):
                digest = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        card = {"license": repo.licence} if repo.licence else {}
        info = {
            "id": name.removeprefix("datasets/"),
            "sha": sha,
            "siblings": siblings,
            "cardData": card,
            "private": repo.private,
        }
        self.answer_json(self.hub.faults.get("info", info))

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        if not (found := self.found(name, revision)):
            return
        repo, sha = found
        if repo.gated:
            self.refuse(403, "GatedRepo")
            return
        data = repo.commits[sha].get(file)
        if "gone" in self.hub.faults:
            status = self.hub.faults["gone"]
            self.refuse(status, "EntryNotFound" if status == 404 else "Broken")
            return
        if data is None:
            self.refuse(404, "EntryNotFound")
            return
        digest = hashlib.sha256(data).hexdigest()
        etag = self.hub.faults.get("etag", digest if file.endswith(LARGE) else sha1_of_blob(data))
        headers = {"X_Repo_Commit": sha, "ETag": f'"{etag}"', "X_Linked_Size": str(len(data))}
        if "xet" in self.hub.faults:
            headers |= {"X_Xet_Hash": digest, "X_Xet_Refresh_Route": f"{self.hub.url}/xet"}
        if not file.endswith(LARGE):
            self.body(data, **headers)
            return
        place = self.hub.faults.get("location", f"{self.hub.storage}/lfs/{digest}")
        self.answer(302, **headers, X_Linked_Etag=f'"{etag}"', Location=place)

    def body(self, data: bytes, **headers: str) -> None:
        if self.command == "GET" and "wrong" in self.hub.faults:
            data = bytes(b ^ 1 for b in data)
        if self.command == "GET" and "longer" in self.hub.faults:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            return
        if self.command == "GET" and "half" in self.hub.faults:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            self.hub.faults["half"] -= 1
            if not self.hub.faults["half"]:
                del self.hub.faults["half"]
            return
        if self.command == "GET" and "stall" in self.hub.faults:
            self.hub.faults["stall"].wait()
        self.answer(200, data, **headers)

    def large(self, body: bytes, digest: str) -> None:
        if self.command == "PUT":
            self.hub.stored[hashlib.sha256(body).hexdigest()] = body
            self.answer(200)
            return
        self.body(self.hub.stored[digest])

    def loop(self, body: bytes, n: str) -> None:
        self.answer(302, Location=f"{self.hub.storage}/loop/{int(n) + 1}")

    def hops(self, body: bytes, n: str, digest: str) -> None:
        left = int(n) - 1
        place = f"hops/{left}/{digest}" if left else f"lfs/{digest}"
        self.answer(302, Location=f"{self.hub.storage}/{place}")

    def create(self, body: bytes) -> None:
        if not self.headers.get("Authorization"):
            self.refuse(401, "Unauthorized")
            return
        asked = json.loads(body)
        owner = asked.get("organization") or "me"
        name = f"{owner}/{asked['name']}"
        if "conflict" in self.hub.faults:
            text = "Cannot create repo: another conflicting operation is in progress"
            self.answer_json({"error": text}, 409)
            return
        created = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        if name in self.hub.repos:
            self.answer_json({"error": "You already created this model repo", **created}, 409)
            return
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        self.hub.repos[name].commit({".gitattributes": b""})
        self.answer_json(created)

    def validate(self, body: bytes) -> None:
        self.answer_json({"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.answer_json({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            {
                **{key: file[key] for key in ("oid", "size")},
                "actions": {"upload": {"href": f"{self.hub.storage}/lfs/{file['oid']}"}},
            }
            for file in json.loads(body)["objects"]
        ]
        self.answer_json({"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        repo = self.hub.repos[name]
        files = dict(repo.commits[repo.refs[revision]])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        if "torn commit" in self.hub.faults:
            files["model.safetensors"] = b"something else"
        sha = repo.commit(files, revision)
        self.answer_json(
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"{self.hub.url}/{name}/commit/{sha}",
                "hookOutput": "",
            }
        )


REPO, DATASET = r"([^/]+/[^/]+)", r"(datasets/[^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (rf"/api/{DATASET}/revision/(.+)", Handler.info),
    (rf"/api/{DATASET}", Handler.info),
    (rf"/{DATASET}/resolve/([^/]+)/(.+)", Handler.resolve),
    (rf"/api/models/{REPO}/revision/(.+)", Handler.info),
    (rf"/api/models/{REPO}/preupload/(.+)", Handler.preupload),
    (rf"/api/models/{REPO}/commit/(.+)", Handler.commit),
    (rf"/api/models/{REPO}", Handler.info),
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.validate),
    (rf"/{REPO}\.git/info/lfs/objects/batch", Handler.batch),
    (rf"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
    (r"/lfs/([0-9a-f]{64})", Handler.large),
    (r"/loop/(\d+)", Handler.loop),
    (r"/hops/(\d+)/([0-9a-f]{64})", Handler.hops),
]


@contextmanager
def serving() -> Iterator[Hub]:
    """Run the site on two ports of this machine: itself, and another host for large files."""
    hub = Hub()
    bound = type("Bound", (Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), bound) for _ in range(2)]
    hub.url, hub.storage = (f"http://127.0.0.1:{s.server_address[1]}" for s in servers)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def weights(seed: int = 0, model: str | None = NET) -> bytes:
    """Return a safetensors file that names its network."""
    notes = {"soupmerge": json.dumps({"model": model})} if model else None
    return safetensors.torch.save(sm.model(NET, seed=seed).state_dict(), notes)


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def blobs(home: Path) -> set[str]:
    """Return the names of what someone could take from the caches in *home*."""
    found = [p for p in home.rglob("*") if p.is_file() and p.suffix != ".incomplete"]
    return {p.name for p in found if {"blobs", "snapshots"} & set(p.parts)}

"""How long a cached reference to the Hub takes to open, once the Hub's client is imported.

The script puts a repository in timm's layout into the cache of the Hub's client, as a pull would.
Sockets are disabled: any attempt to connect ends the script.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

GOAL = 0.05
"""Seconds."""
COMMIT = "0123456789" * 4
REF = "hf-hub:owner/name"


def cached(home: Path, megabytes: int) -> None:
    """Put a repository with one safetensors file and timm's config into the client's cache."""
    import numpy as np
    from safetensors.numpy import save

    config = {"architecture": "resnet18", "num_classes": 10}
    files = {
        "model.safetensors": save({"fc.weight": np.zeros((megabytes, 250_000), np.float32)}),
        "config.json": json.dumps(config).encode(),
    }
    root = home / "hub" / "models--owner--name"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (root / folder).mkdir(parents=True)
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        (root / "blobs" / digest).write_bytes(data)
        (root / "snapshots" / COMMIT / name).symlink_to(f"../../blobs/{digest}")
    (root / "refs" / "main").write_text(COMMIT)


def no_socket(*arguments: Any) -> None:
    raise SystemExit(f"opening a cached reference connected to {arguments[1:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100, help="size of the weights")
    given = common.options(parser)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_HOME": home, "HF_HUB_OFFLINE": "1"}
        cached(Path(home), given.megabytes)
        import huggingface_hub  # noqa: F401

        from soupmerge.sources import hub

        socket.socket.connect = no_socket  # type: ignore[method-assign]
        taken = []
        for _ in range(10 if given.quick else 50):
            began = time.perf_counter()
            found = hub.opened(REF)
            taken.append(time.perf_counter() - began)
        assert found.ref == f"{REF}@{COMMIT}"
        assert str(found.model).startswith("timm:resnet18")
    print(f"the first time, when its hash is computed: {taken[0]:.4f} s", file=sys.stderr)
    seconds = statistics.median(taken[1:])
    ratios = {
        "a cached reference, seconds / 0.05": common.ratio(seconds / GOAL, "<= 1"),
        "the slowest opening, seconds / 0.05": common.ratio(max(taken[1:]) / GOAL, "<= 1"),
    }
    common.answer(ratios, as_json=given.json)


if __name__ == "__main__":
    main()

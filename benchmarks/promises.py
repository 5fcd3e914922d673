"""The promised times: the demo takes 3 minutes and the tests take 5, on two cores.

Each ratio is the measured wall time over the promised one. `--quick` leaves the tests out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import common

ROOT = Path(__file__).parent.parent


def main() -> None:
    given = common.options(argparse.ArgumentParser(description=__doc__))
    with tempfile.TemporaryDirectory() as folder:
        demo = common.seconds([common.PYTHON, "-m", "soupmerge", "demo", "-o", f"{folder}/demo"])
    ratios = {"demo / 180 s": common.ratio(demo / 180, "<= 1")}
    if not given.quick:
        tests = common.seconds([common.PYTHON, "-m", "pytest"], cwd=ROOT)
        ratios["tests / 300 s"] = common.ratio(tests / 300, "<= 1")
    common.answer(ratios, as_json=given.json)


if __name__ == "__main__":
    main()

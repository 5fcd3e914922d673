"""How long `soupmerge --help` takes, against importing the two libraries that it prints with."""

from __future__ import annotations

import argparse

import common


def main() -> None:
    given = common.options(argparse.ArgumentParser(description=__doc__))
    ours = [common.PYTHON, "-m", "soupmerge", "--help"]
    floor = [common.PYTHON, "-c", "import click, rich"]
    help_time, floor_time = common.in_turn(ours, floor, times=10 if given.quick else 30)
    ratios = {"soupmerge --help / import click, rich": common.ratio(help_time / floor_time, "<= 2")}
    common.answer(ratios, as_json=given.json)


if __name__ == "__main__":
    main()

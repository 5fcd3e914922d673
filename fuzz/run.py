"""Fuzz one reader: ``python -m fuzz.run NAME [--corpus FOLDER] [libFuzzer options]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["soupmerge", "zipfile"]):
    from fuzz import mutating, seeds, targets

DEFAULTS = ("-timeout=10", "-rss_limit_mb=192", "-max_len=4096", "-print_final_stats=1")


def main() -> None:
    """Run the target that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(seeds.WORDS))
    parser.add_argument("--corpus", type=Path, help="where inputs and finds are kept")
    args, options = parser.parse_known_args()
    corpus = args.corpus or Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        place = targets.Workplace(Path(folder))
        target = place.targets[args.name]
        seeds.write(corpus)
        (corpus / "finds").mkdir(exist_ok=True)
        known = corpus / f"{args.name}.dict"
        known.write_text(seeds.dictionary(args.name))
        for path in (corpus / args.name).iterdir():  # so that all is imported that ever is
            target(path.read_bytes())
        place.watch.armed = True
        home = f"-artifact_prefix={corpus}/finds/{args.name}-"
        files = [path for path in options if not path.startswith("-")]
        inputs = files or [str(corpus / args.name)]
        flags = [option for option in options if option.startswith("-")]
        words = [sys.argv[0], *DEFAULTS, f"-dict={known}", home, *flags, *inputs]
        if args.name == "pickles":
            atheris.Setup(words, target, custom_mutator=mutated)
        else:
            atheris.Setup(words, target)
        atheris.Fuzz()


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Return a pickle changed by its instructions, or by its bytes."""
    if seed % 3:
        return mutating.mutated(data, most, seed)
    changed: bytes = atheris.Mutate(data, most)
    return changed


if __name__ == "__main__":
    main()

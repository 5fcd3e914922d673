"""``python -m soupmerge``."""

from soupmerge.cli.main import main

main()

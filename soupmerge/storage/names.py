"""Names of the files in a run folder: one table for every room that writes or reads them."""

from __future__ import annotations

MANIFEST = "manifest.json"
"""What the run does: its command, inputs, settings and environment."""

TRIALS, CONTENDERS = "trials.jsonl", "judged.jsonl"
ROUNDS, HISTORY = "rounds.jsonl", "history.jsonl"
"""Journals: judged soups or networks, the final comparison of `adapt`, rounds of a race, epochs."""

VERDICTS = "verdicts.jsonl"
"""Journal of verdicts on single images, kept while a network is being judged."""

STATE, ADVERSARIALS = "state.safetensors", "adversarial.safetensors"
"""Snapshots: the state of training or learning, and the images that fooled earlier soups."""

RECIPE, SOUP = "recipe.json", "soup.safetensors"
"""The chosen soup."""

FRONT = "front.json"
"""A recipe for every preference between objectives."""

PLAN, DOUBTS = "plan.json", "doubts.json"
"""How many soups a search will judge and on which images, and the doubts about its winner."""

RACE, DECISIONS, ADAPTED, BARRIERS = "race.json", "decisions.json", "adapted.json", "barriers.json"
"""Results of `race`, `greedy`, `adapt` and `check`."""

IMAGES, FLAGS = "images.csv", "flags.csv"
"""The images that were used, and the verdicts on them."""

BEST, FIGURES = "best", "figures"
"""Folders: the best recipe by each metric, and figures."""

OWN = (
    *(TRIALS, CONTENDERS, ROUNDS, HISTORY, VERDICTS, "*.jsonl.torn"),
    *(STATE, ADVERSARIALS, RECIPE, SOUP, FRONT, PLAN, DOUBTS, RACE, DECISIONS, ADAPTED, BARRIERS),
    *(IMAGES, FLAGS, f"{BEST}/*.json", *(f"{FIGURES}/*.{kind}" for kind in ("png", "svg", "pdf"))),
)
"""The files of a run apart from its manifest; ``--force`` removes these and nothing else."""

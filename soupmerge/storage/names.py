"""The files of a run folder, by name: one table, which every room that writes or reads one uses."""

from __future__ import annotations

MANIFEST = "manifest.json"
"""What the run is about: command, inputs, settings, environment."""

TRIALS, CONTENDERS = "trials.jsonl", "judged.jsonl"
ROUNDS, HISTORY = "rounds.jsonl", "history.jsonl"
"""Journals: soups or networks, what `adapt` judges at its end, the rounds of a race, epochs."""

VERDICTS = "verdicts.jsonl"
"""Journal of verdicts on single images, kept while a network is being judged."""

STATE, ADVERSARIALS = "state.safetensors", "adversarial.safetensors"
"""Snapshots: of a training or learning, and of the images that fooled earlier soups."""

RECIPE, SOUP = "recipe.json", "soup.safetensors"
"""The chosen soup."""

PLAN, DOUBTS = "plan.json", "doubts.json"
"""How many soups a search will judge and on which images, and the doubts about its winner."""

RACE, DECISIONS, ADAPTED, BARRIERS = "race.json", "decisions.json", "adapted.json", "barriers.json"
"""Results of `race`, `greedy`, `adapt` and `check`."""

IMAGES, FLAGS = "images.csv", "flags.csv"
"""Which images were used, and the verdict on each."""

BEST, FIGURES = "best", "figures"
"""Folders: the best recipe by each metric, and pictures."""

OWN = (
    *(TRIALS, CONTENDERS, ROUNDS, HISTORY, VERDICTS, "*.jsonl.torn"),
    *(STATE, ADVERSARIALS, RECIPE, SOUP, PLAN, DOUBTS, RACE, DECISIONS, ADAPTED, BARRIERS),
    *(IMAGES, FLAGS, f"{BEST}/*.json", *(f"{FIGURES}/*.{kind}" for kind in ("png", "svg", "pdf"))),
)
"""What a run leaves beside its manifest; ``--force`` removes these and nothing else."""

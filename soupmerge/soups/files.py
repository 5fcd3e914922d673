"""Names of the files that a search leaves in its run folder, for those who read it again."""

from __future__ import annotations

PLAN = "plan.json"
"""What the search set out to do: how many soups, and the ledger's entry on the choosing images."""

RECIPE = "recipe.json"
"""The recipe of the chosen soup: there is one once the search is finished."""

DOUBTS = "doubts.json"
"""Reasons to doubt the robust accuracy of the chosen soup, found by the cheap checks."""

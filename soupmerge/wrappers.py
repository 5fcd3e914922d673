"""Prefixes that training wrappers leave in the names of tensors."""

PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "base_model.",
    "attacker.model.",
    "net.",
    "1.",
)
"""Put before every tensor name by data parallelism, compilation or a normaliser in front."""

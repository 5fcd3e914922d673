"""What training wrappers leave behind in the names of tensors."""

PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "base_model.",
    "attacker.model.",
    "net.",
    "1.",
)
"""Put before every tensor name: data parallelism, compilation, a normaliser in front."""

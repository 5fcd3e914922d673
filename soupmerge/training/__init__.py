"""Training: fine-tuning a network under a threat, which makes an ingredient."""

"""Threat models, attacks and benchmarks; this part handles images and never weight files."""

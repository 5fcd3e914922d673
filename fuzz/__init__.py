"""Fuzzing of what reads files that are not to be trusted."""

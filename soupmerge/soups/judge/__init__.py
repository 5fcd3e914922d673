"""Judging: networks before benchmarks, trials, metrics, verdicts on disk."""

"""Figures and pages, drawn from run folders alone."""

"""Geometry: barriers between ingredients, and the loss on the plane through three."""

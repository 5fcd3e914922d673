"""Tensors, never an image: checkpoints, how they fit, recipes, and the formula."""

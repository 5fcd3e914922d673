"""Containers of images: what readers of each find, and where in them images are stored."""

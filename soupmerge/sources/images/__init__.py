"""Labelled images: what a reference holds, and its pixels when they are asked for."""

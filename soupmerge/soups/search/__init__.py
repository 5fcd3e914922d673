"""Searches: judge soups one by one, and choose the best."""

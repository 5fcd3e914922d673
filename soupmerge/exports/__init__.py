"""A soup → a folder that others can load, read about and make again."""

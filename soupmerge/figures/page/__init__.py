"""The page of one or several runs: its data, its plots, and the file itself."""

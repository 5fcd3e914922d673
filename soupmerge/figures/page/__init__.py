"""The page of one or several runs: what it says, how it is drawn, how it is written."""

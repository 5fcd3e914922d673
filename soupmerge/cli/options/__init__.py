"""Options that several commands share: each group a small value, its reading and its checks."""

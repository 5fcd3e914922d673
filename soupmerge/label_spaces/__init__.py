"""Label spaces: what the outputs of a network stand for, by name; no implementation here."""

"""The mutation run: small changes to the package, each of which some test should notice."""

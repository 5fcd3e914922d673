"""The command line: one command a file, each parses, calls the library once, and prints."""

"""The only room that writes to disk: whole files or none, and journals that survive a kill."""

"""The only room that writes to disk: files appear whole or not at all, journals survive a kill."""

"""Images, never a weight file: threats, attacks, and verdicts that can be trusted."""

"""Pictures, drawn from run folders only."""

"""Making ingredients: fine-tuning a base towards a threat."""

"""Training: one flat config, one readable loop."""

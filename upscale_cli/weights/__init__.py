"""Weights as files: where they come from, how they are checked and read."""

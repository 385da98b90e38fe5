"""Scores: pure functions over arrays."""

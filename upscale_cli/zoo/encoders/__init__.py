"""Encoders: published networks that others are built on or judged by; their keys are those of the published weights."""

"""Evaluations: what a model's images are worth."""

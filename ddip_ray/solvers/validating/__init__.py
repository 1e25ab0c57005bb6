"""Choices that held-out measurements make: strength of the adaptation, noise level."""

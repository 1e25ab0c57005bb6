"""Readers of measured k-space."""

"""Readers of measured projections."""

"""Readers of measured projections, and their geometry. `open` holds the table of formats."""

"""Readers of measured k-space, Cartesian or along a trajectory. `open` holds the table of formats."""

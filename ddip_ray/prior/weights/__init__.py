"""Weights that ship with the package, one directory a prior."""

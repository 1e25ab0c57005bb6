"""Operators and denoisers of other libraries as ours, and ours as theirs: deepinv, SciPy."""

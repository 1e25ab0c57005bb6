"""Checks of a machine, or of a Ray cluster and its nodes, before a run."""

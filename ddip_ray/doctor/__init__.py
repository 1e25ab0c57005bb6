"""Checks of a cluster and of its nodes, before a run."""

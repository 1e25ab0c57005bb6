"""Snapshots of a run, from which it goes on after an interruption."""

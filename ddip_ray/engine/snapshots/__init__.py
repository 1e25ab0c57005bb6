"""Snapshots, from which a run goes on after an interruption."""

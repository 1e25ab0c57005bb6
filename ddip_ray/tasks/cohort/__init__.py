"""Many volumes, side by side, with a ledger that survives."""

"""Many volumes reconstructed side by side, with a ledger that several drivers can share."""

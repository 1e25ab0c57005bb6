"""Methods without a prior: FBP, zero-filled, CG, total variation."""

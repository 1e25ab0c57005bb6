"""Training the prior on synthetic phantoms."""

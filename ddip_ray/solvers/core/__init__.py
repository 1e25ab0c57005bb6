"""What every method shares: the slab's problem, its state, randomness, one step's parts."""

"""The parts that methods share: the slab's problem, its state, randomness, one step's parts."""

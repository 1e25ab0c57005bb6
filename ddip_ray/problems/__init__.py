"""From a slab of an acquisition store to the problem y = A x + n; one file for each kind of acquisition."""

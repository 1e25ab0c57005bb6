"""From a slab of an acquisition store to the problem y = A x + n."""

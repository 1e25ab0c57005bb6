"""One step of each method on one slab, pure torch."""

"""Commands that reconstruct volumes, or describe, score, compare and export them."""

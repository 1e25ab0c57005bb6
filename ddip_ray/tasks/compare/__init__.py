"""Several methods side by side, in one table and one picture."""

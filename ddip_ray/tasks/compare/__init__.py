"""Several methods on one acquisition, scored alike and tabulated."""

"""Low-rank adaptation of the prior to one scan."""

"""`ddip-ray launch`: the same commands as jobs of a cluster."""

"""Judging results: scores against a reference, the residual of the measurements, and a picture."""

"""Acquisition stores, simulated from images or imported from measurements."""

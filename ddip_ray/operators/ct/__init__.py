"""Computed tomography: projectors, their exact adjoints, filtered back-projection."""

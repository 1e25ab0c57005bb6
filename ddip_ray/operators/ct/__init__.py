"""Operators of computed tomography: projectors, their exact adjoints, filtered back-projection."""

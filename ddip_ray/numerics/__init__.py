"""Arithmetic whose bits do not depend on how slices are spread over workers."""

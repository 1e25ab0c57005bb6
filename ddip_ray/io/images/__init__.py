"""Readers of 3D images."""

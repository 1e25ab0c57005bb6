"""Scores and pictures of results."""

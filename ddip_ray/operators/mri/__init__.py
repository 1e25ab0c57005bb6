"""Operators of magnetic resonance imaging: Fourier sampling, coils, trajectories."""

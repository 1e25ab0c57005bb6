"""Magnetic resonance imaging: Fourier sampling, coils, trajectories."""

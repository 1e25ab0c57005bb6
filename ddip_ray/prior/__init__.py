"""The diffusion prior: schedule, network, phantoms, training."""

"""Jobs for Slurm and Kubernetes: rendered from a site's settings, submitted and followed."""

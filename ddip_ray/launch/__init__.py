"""Jobs for clusters, rendered from a site's settings, sent and followed: Slurm, Kubernetes."""

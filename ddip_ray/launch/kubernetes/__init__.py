"""Jobs for Kubernetes, run by KubeRay."""

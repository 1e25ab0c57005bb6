"""Jobs for Kubernetes, by KubeRay."""

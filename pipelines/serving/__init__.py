"""Serves the champion: on this machine, and on a cluster by Kubernetes' own rolling update."""

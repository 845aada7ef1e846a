"""A stand-in for the server of Kubeflow Pipelines: real HTTP, state, and the published API as judge of both ends."""

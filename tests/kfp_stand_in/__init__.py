"""A stand-in for the server of Kubeflow Pipelines: real HTTP and state, checked by the published API."""

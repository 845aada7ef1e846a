"""MLflow: its database, the run, the tags of the registry, and the gate that compares models."""

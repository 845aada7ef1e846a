"""MLflow: its database, the run, the names in the registry, and the gate that compares models."""

"""The runtime of a step: its process, settings, secrets, heartbeat and record."""

"""The process of a step: its settings, secrets, heartbeat and record."""

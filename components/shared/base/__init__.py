"""Failures, redaction, ranges, addresses and events, which every other package of the project uses."""

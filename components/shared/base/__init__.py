"""What every other package of the project needs: failures, redaction, ranges, addresses, events."""

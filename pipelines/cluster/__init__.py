"""The cluster: what a task asks of it, and how a run is submitted, watched and scheduled there."""

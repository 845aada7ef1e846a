"""The cluster: placing tasks on it, and submitting, following and scheduling runs."""

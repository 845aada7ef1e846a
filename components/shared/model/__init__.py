"""The hardware that a model runs on, its output head, and pretrained or registered weights."""

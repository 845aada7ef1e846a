"""The hardware of a model, its output layer, and pretrained or registered weights."""

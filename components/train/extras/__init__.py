"""Optional parts of the training, each chosen by a setting: `loop.py` can be read without them."""

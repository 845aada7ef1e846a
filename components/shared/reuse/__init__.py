"""Reuse keys, trained models by key, the training lock, and the decision whether a run trains."""

"""Reuse keys, trained models by key, and the decision whether a run trains."""

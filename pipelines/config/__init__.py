"""The settings of a run, the profiles, and what a process needs before it starts."""

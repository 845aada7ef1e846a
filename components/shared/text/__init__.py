"""Articles of a corpus, and the units in which text is counted."""

"""The articles of a corpus, and the units in which text is measured."""

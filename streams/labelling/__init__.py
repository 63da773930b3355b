"""Labelling: the late-label join, its store, and the windows of labels."""

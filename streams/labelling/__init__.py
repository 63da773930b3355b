"""Labelling: the late-label join, its store, and the label windows."""

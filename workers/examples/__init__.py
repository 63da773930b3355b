"""Training examples: where they lie, and how they are read."""

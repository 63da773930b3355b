"""A world's events and labels through the whole loop, and how good what was served is."""

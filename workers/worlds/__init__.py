"""Worlds: where a pipeline's events and labels come from, simulated or real."""

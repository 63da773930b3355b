"""Simulated worlds, one for each example pipeline."""

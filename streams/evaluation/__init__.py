"""Evaluation: what matured examples say of the versions that served their events."""

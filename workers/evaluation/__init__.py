"""Evaluation: metrics, resampling, and the gate that decides on a candidate."""

"""Scoring: from raw events to predictions, over micro-batches."""

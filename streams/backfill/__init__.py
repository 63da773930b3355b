"""Backfill: history through the online path's own code, in the order in which it happened."""

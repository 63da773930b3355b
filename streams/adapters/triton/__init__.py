"""Triton: scoring, loading, and several servers as one."""

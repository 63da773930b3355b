"""Processes: the whole loop, and the supervisor of its workers."""

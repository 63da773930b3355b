"""Processes: the loop, its supervisor, and an application as a process."""

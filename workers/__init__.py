"""Processes off the request path: training, gating, publishing, the embedded stack and the CLI."""

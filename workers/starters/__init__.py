"""Pipelines to begin with, one of each kind: `driftloop new NAME --kind KIND` writes a copy."""

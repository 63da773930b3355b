"""Pipelines: one file per product, made to be copied and edited."""

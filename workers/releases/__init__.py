"""Releases: model versions on disk, in Triton and in the ledger."""

"""The border of the online path: what it takes, what it gives, and what it needs from outside.

Each protocol for a system has an adapter for the real one and one in memory (`streams.adapters`),
held to the same suite in `tests/contract`.
"""

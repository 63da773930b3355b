"""Asyncio tools: ending tasks, coalescing calls, retrying."""

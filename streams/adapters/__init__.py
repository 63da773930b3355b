"""The real systems behind the ports, and each of them in memory."""

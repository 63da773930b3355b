"""One module per real system, and memory."""

"""Resources: what the loop uses, what it needs, and what follows from that."""

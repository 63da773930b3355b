"""Training: when a candidate is due, and how it is made. The only package that knows torch."""

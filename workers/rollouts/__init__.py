"""Rolling versions out by degrees: what is known of the one on its way, and what follows."""

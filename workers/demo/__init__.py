"""`driftloop demo`: twelve weeks of card payments through the whole loop, in minutes."""

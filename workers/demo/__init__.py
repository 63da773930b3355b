"""`driftloop demo`: eight weeks of card payments through the whole loop, in minutes."""

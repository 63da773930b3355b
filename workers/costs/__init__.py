"""Costs: what `P.costs` says, by role, version and day; and whether a retrain is within budget."""

"""The ledger `P.models`: it alone says which version serves."""

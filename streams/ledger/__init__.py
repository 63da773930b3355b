"""The ledger `P.models`: the only word on which version serves."""

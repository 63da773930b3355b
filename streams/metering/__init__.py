"""Metering: what each process uses, written to `P.costs`, and what that costs."""

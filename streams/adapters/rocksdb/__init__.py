"""The label store on local disk."""

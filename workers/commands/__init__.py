"""The subcommands of `driftloop`, one module per group."""

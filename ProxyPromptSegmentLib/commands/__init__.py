"""The subcommands, one subject each."""

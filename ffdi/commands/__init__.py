"""The `ffdi` command: a file per command."""

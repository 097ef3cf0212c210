"""Where the tasks of an extraction run."""

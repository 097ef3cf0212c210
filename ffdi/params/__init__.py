"""params.yaml: its schema, its sole reader, and the paths that it names."""

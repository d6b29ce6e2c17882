"""Settings of a run: the schema with its defaults, YAML files, overrides."""

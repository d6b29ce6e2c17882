"""The verbs, one file each; each returns a frozen value."""

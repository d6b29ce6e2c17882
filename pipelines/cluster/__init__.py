"""Resources, jobs and distributed scoring on Ray."""

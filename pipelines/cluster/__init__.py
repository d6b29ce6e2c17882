"""What runs on Ray: resources, jobs, distributed scoring."""

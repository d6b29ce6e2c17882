"""The HTML pages and picture sheets that people look at."""

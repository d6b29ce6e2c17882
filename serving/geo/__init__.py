"""Georeferenced rasters: read, place on the ground, write as COG."""

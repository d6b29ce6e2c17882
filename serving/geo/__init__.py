"""Georeferenced rasters: reading, measuring on the ground, writing as Cloud Optimized GeoTIFFs."""

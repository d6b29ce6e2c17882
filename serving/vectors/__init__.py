"""Drawn maps as polygons."""

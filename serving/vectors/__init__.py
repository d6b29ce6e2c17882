"""Maps as polygons."""

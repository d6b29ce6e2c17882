"""Images of any size through one model: tiles, blending, whole scenes."""

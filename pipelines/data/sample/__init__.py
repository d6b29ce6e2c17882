"""Paints the sample: one seeded layout of streets, drawn as an aerial photo and as a street map."""

"""Batches of photos and scenes to folders of maps with a manifest."""

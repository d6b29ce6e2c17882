"""Files and streams: atomic writes, images, storage on disk and in the cloud, progress on the terminal."""

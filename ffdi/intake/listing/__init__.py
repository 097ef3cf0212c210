"""Files on disk -> one table of images with their labels, groups and given splits; no image is opened."""

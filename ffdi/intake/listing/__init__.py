"""A data set as it lies on disk -> one table of its images, their labels, groups and given splits; no image is opened."""

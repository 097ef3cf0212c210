"""Whether everything is in place: packages, device, weights, disk, and what the next run takes."""

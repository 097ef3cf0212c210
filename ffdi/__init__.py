"""Train and judge deepfake-image detectors cheaply and honestly."""

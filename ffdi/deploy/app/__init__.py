"""`ffdi app`: a page on loopback that judges images."""

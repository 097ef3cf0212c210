"""The embedded demo: synthetic faces, and forgeries of half of them."""

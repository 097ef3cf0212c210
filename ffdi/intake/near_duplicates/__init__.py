"""Images that show the same thing: found by perceptual hashes, by variants of a picture, by embeddings."""

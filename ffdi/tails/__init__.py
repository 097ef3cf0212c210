"""Stage 2: what is trained."""

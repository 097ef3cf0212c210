"""Stage 1: what is frozen, computed once and cached."""

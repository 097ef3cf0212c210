"""The model card: what may be said of a model, and the text that says it."""

"""The detector outside the laboratory: predictions, explanations, exports, the app."""

"""Bytes -> RGB pixels: the one decode policy, and what each format needs besides Pillow."""

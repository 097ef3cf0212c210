"""The suffixes of image files."""

from __future__ import annotations

SUFFIXES = (
    *(
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".jp2",
    ),
    *(".avif", ".heic", ".heif", ".jxl"),
)

"""Why a video is not read."""

from __future__ import annotations

from ffdi.intake.decoding.formats import UnreadableImage


class UnreadableVideo(UnreadableImage):
    """A file that is no whole video of an allowed size; the message is the reason, without the path."""


def too_large(width: int, height: int, max_pixels: int) -> UnreadableVideo:
    """The error of a video, or of a frame in it, that is larger than allowed."""
    return UnreadableVideo(f"{width}x{height} is more than data.max_pixels = {max_pixels}")

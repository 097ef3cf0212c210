"""What the app accepts, and for how long it works on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may take, and how many may be here at once. What is held in memory is at most `places` * `megabytes`."""

    megabytes: int = 20
    """Of a file, 10^6 bytes each."""
    pixels: int = 50_000_000
    """Of a picture; the header of a file tells them before it is decoded."""
    seconds: float = 60
    """For the judging of a picture; a process that takes longer is ended."""
    upload_seconds: float = 30
    """For the upload of a file."""
    places: int = 16
    """Uploads that are received, wait or are judged at once; one more is turned away."""

    @property
    def most_bytes(self) -> int:
        """Of a file."""
        return self.megabytes * 10**6

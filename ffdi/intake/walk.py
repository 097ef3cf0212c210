"""What lies below a root: its image files, and everything that is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ffdi.errors import InputError
from ffdi.intake.formats import SUFFIXES


def image_files(root: Path) -> Iterable[str]:
    """POSIX paths, relative to root, of all files with an image's suffix; hidden ones are passed over.

    Folder by folder, names sorted; symlinks to folders are not entered. Raises InputError for a folder that cannot be
    read.
    """
    waiting = [("", True)]  # (path, whether it is a folder), the next one last
    while waiting:
        path, is_folder = waiting.pop()
        if path.lower().endswith(SUFFIXES):
            yield path
        if is_folder:
            try:
                with os.scandir(root / path) as entries:
                    shown = [e for e in entries if not e.name.startswith(".")]
            except OSError as error:
                raise InputError(f"{root / path}: {error.strerror}") from error
            prefix = f"{path}/" if path else ""
            waiting += sorted(((prefix + e.name, e.is_dir(follow_symlinks=False)) for e in shown), reverse=True)

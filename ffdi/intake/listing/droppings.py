"""Files that systems, cameras, clouds and browsers leave among photos, known by their names."""

from __future__ import annotations

import re

HIDDEN, SYSTEM = "hidden", "system file"
CLOUD = "not downloaded from the cloud: download it"
UNFINISHED = "unfinished download: load it again"
SIDE = "side file of a photo"
RAW = "camera raw: export it as JPEG, PNG or TIFF"
PLURALS = {
    SYSTEM: "system files",
    CLOUD: "not downloaded from the cloud",
    UNFINISHED: "unfinished downloads",
    SIDE: "side files of photos",
    RAW: "camera raws",
}

# Besides ._*, the side files of a Mac, and ~$*, the locks of office programs
_SYSTEM_FILES = {
    *(".ds_store", "icon\r", ".localized", ".apdisk", ".volumeicon.icns"),
    *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "folder.jpg:stream"),
    *("zbthumbnail.info", "picasa.ini", ".picasa.ini", ".nomedia", ".dropbox", ".dropbox.attr", ".directory"),
}
_SYSTEM_FOLDERS = {
    *("__macosx", ".spotlight-v100", ".trashes", ".fseventsd", ".appledouble", ".temporaryitems", "temporary items"),
    *("network trash folder", "$recycle.bin", "system volume information", "lost+found", "found.000"),
    *("@eadir", "#recycle", "@recycle", "@tmp", "#snapshot", ".@__thumb", ".dropbox.cache", ".stfolder", ".stversions"),
}
_STREAM = ":zone.identifier"  # which a copy from NTFS makes a file of its own
_UNFINISHED = (".part", ".partial", ".crdownload", ".opdownload", ".download", ".aria2", ".!ut", ".tmp", ".filepart")
_SIDE = (".xmp", ".aae", ".thm", ".lrv", ".pp3", ".dop", ".cos", ".on1", ".pto", ".xmp~", ".acr")
_TAKEOUT = re.compile(r"\.(jpe?g|png|heic|heif|webp|gif|avif|dng|mp4?|mov|mp~\d)(\(\d+\))?(\.[^.]*)?(\(\d+\))?\.json$")
_RAWS = (
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".pef", ".srw"),
    *(".3fr", ".fff", ".iiq", ".x3f", ".rwl", ".gpr", ".proraw"),
)


def is_system_folder(name: str) -> bool:
    """Whether a system keeps a folder of this name for itself."""
    return name.casefold() in _SYSTEM_FOLDERS


def hidden(name: str) -> str:
    """Why a file is none that somebody put there; "" where it may be one."""
    lower = name.casefold()
    if name.startswith(".") and lower.endswith(".icloud"):  # .IMG_1.HEIC.icloud stands for IMG_1.HEIC
        return CLOUD
    if name.startswith(("._", "~$")) or lower in _SYSTEM_FILES or lower.endswith(_STREAM):
        return SYSTEM
    return HIDDEN if name.startswith(".") else ""


def beside(name: str) -> str:
    """Why a file without an image's suffix stands beside photos; "" where that is not known."""
    lower = name.lower()
    if lower.endswith(_UNFINISHED):
        return UNFINISHED
    if lower.endswith(_SIDE) or _TAKEOUT.search(lower):
        return SIDE
    return RAW if lower.endswith(_RAWS) else ""

"""The names of a zip's members, as the system that packed it spelt them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence

_UTF8 = 0x800  # the flag of a name in UTF-8; without it zipfile reads cp437
_UNICODE_PATH = 0x7075  # Info-ZIP's and 7-Zip's field with the name in UTF-8
_WINDOWS = 0  # in create_system


def names_of(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names, in order, with slashes; that of a folder ends in one.

    macOS packs UTF-8 without its flag: a name without it that is valid UTF-8 is that, for hardly a word in cp437 is. In an
    archive of Windows in which no name has a slash, backslashes are slashes; anywhere else they stay.
    """
    names = [_name(member) for member in members]
    if all(member.create_system == _WINDOWS for member in members) and not any("/" in name for name in names):
        return [name.replace("\\", "/") for name in names]
    return names


def _name(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & _UTF8 or member.orig_filename.isascii():
        return member.filename
    packed = member.orig_filename.encode("cp437")
    return _unicode_path(member.extra, packed) or _as_utf8(packed) or member.filename


def _unicode_path(extra: bytes, packed: bytes) -> str:
    """The name in the field for it, if that belongs to the packed name; otherwise ""."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) == size > 5 and field[0] == 1:
            return _as_utf8(field[5:]) if struct.unpack_from("<L", field, 1)[0] == zlib.crc32(packed) else ""
    return ""


def _as_utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""

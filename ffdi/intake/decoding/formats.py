"""The formats that are read: the suffixes of their files, and the first bytes that identify them and other formats.

A file is opened as the format of its bytes, whatever its name, and with the plugin of that format alone. By default
Pillow tries all of its plugins, and one of them passes the file to Ghostscript.
"""

from __future__ import annotations

from ffdi.errors import InputError

_JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".jp2", ".j2k", ".jxl")
_OTHERS = (".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".heic", ".heif", ".hif")
SUFFIXES = (*_JPEGS, *_OTHERS)  # in lower case
_PARTS_OF_MPEG = (".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".h264", ".264", ".h265", ".265", ".hevc")
_BOXED = (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v")
VIDEO_SUFFIXES = (
    *_BOXED,
    ".avi",
    ".mkv",
    ".webm",
    ".wmv",
    ".asf",
    ".flv",
    ".ogv",
    ".mjpeg",
    ".mjpg",
    ".ivf",
    *_PARTS_OF_MPEG,
)
MEDIA_SUFFIXES = (*SUFFIXES, *VIDEO_SUFFIXES)

# In Pillow's names. A JPEG that is followed by more pictures opens as MPO.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF", "JXL")
NOT_PILLOWS = {"HEIF": "pillow-heif", "JXL": "pillow-jxl-plugin"}  # the packages of ffdi[formats]

RAW = "camera raw"
_JXL = b"\xff\x0a"
_STARTS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    RAW: (b"II*\0\x10\0\0\0CR", b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"),  # before TIFF
    "TIFF": (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+"),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"),
    "JPEG2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
    "JXL": (_JXL, b"\0\0\0\x0cJXL \r\n\x87\n"),
    # Recognised, but not read.
    "EPS": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "PSD": (b"8BPS",),
    "FITS": (b"SIMPLE  =",),
    "ICO": (b"\0\0\1\0",),
    "CUR": (b"\0\0\2\0",),
    "ICNS": (b"icns",),
    "PCX": (b"\n\0\1", b"\n\2\1", b"\n\3\1", b"\n\5\1"),
    "DCX": (b"\xb1\x68\xde\x3a",),
    "SGI": (b"\x01\xda",),
    "SUN raster": (b"\x59\xa6\x6a\x95",),
    "DDS": (b"DDS ",),
    "QOI": (b"qoif",),
    "OpenEXR": (b"v/1\x01",),
    "Radiance HDR": (b"#?RADIANCE", b"#?RGBE"),
    "XCF": (b"gimp xcf",),
    "XPM": (b"/* XPM */",),
    "WMF": (b"\xd7\xcd\xc6\x9a",),
    "EMF": (b"\x01\0\0\0\x6c\0\0\0", b"\x01\0\0\0\x58\0\0\0"),
    "HDF5": (b"\x89HDF\r\n\x1a\n",),
    "GRIB": (b"GRIB",),
    "BUFR": (b"BUFR",),
    "NumPy array": (b"\x93NUMPY",),
    "SVG or XML": (b"<svg", b"<?xml"),
    "HTML": (b"<!DOCTYPE html", b"<!doctype html", b"<html"),
    "Git LFS pointer": (b"version https://git-lfs",),
    "playlist": (b"#EXTM3U", b"ffconcat version", b"[playlist]"),
    "ZIP": (b"PK\3\4",),
    "RAR": (b"Rar!",),
    "7z": (b"7z\xbc\xaf\x27\x1c",),
    "gzip": (b"\x1f\x8b",),
    "Matroska video": (b"\x1a\x45\xdf\xa3",),  # WebM too
    "FLV video": (b"FLV\1",),
    "WMV video": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "Ogg video": (b"OggS",),
    "IVF video": (b"DKIF\0\0",),
    "MPEG video": (b"\0\0\1\xba", b"\0\0\1\xb3"),  # a program stream, or MPEG-1 and 2 alone
    "H.264 video": tuple(start + unit for start in (b"\0\0\1", b"\0\0\0\1") for unit in (b"\x09", b"\x27", b"\x67")),
    "HEVC video": tuple(start + unit for start in (b"\0\0\1", b"\0\0\0\1") for unit in (b"\x40\1", b"\x46\1")),
}
_QUICKTIME = {
    b"moov",
    b"mdat",
    b"wide",
    b"free",
    b"skip",
    b"pnot",
}  # what a file from before the box of brands begins with
_TS_PACKET = 188  # bytes from one sync byte to the next; 192 in a .m2ts, which has a time before each
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


class UnreadableImage(InputError):
    """A file that is not a whole image of an allowed size; the message is the reason, without the path."""


class TooManyPixels(UnreadableImage):
    """A picture that is larger than allowed, and was not decoded."""


def format_of(data: bytes) -> str:
    """The format of these bytes: one of FORMATS, the name of a format that is not read, or "" for an unknown one."""
    if data[4:8] == b"ftyp":
        return _boxed(data)
    if data[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "AVI video"}.get(data[8:12], "")
    if data[4:8] in _QUICKTIME:
        return "QuickTime video"
    found = next((name for name, starts in _STARTS.items() if data.startswith(starts)), "")
    if found not in FORMATS and data[-18:-2] == b"TRUEVISION-XFILE":  # its first bytes may equal those of a CUR
        return "TGA"
    if not found and _is_transport_stream(data):
        return "MPEG transport stream"
    return found or ("DICOM" if data[128:132] == b"DICM" else "")


def _is_transport_stream(data: bytes) -> bool:
    return any(
        len(data) > first + 2 * step and all(data[first + packet * step] == 0x47 for packet in range(3))
        for first, step in ((0, _TS_PACKET), (4, _TS_PACKET + 4))
    )


def _boxed(data: bytes) -> str:
    """AVIF, HEIF or a video: all begin with an ISO box of brands, the file's main brand first."""
    end = min(int.from_bytes(data[:4], "big"), 4096)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] == b"crx ":
        return RAW
    if brands[0] in (b"avif", b"avis"):
        return "AVIF"
    if brands[0] in (b"mif1", b"msf1", b"miaf") and {b"avif", b"avis"} & set(brands):
        return "AVIF"
    return "HEIF" if _HEIF & set(brands) else "MP4 video"


def jxl_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG XL, from its first bits; UnreadableImage where they are missing.

    The plugin knows the size only after it has decoded the whole picture.
    """
    box = max(data.find(b"jxlc"), data.find(b"jxlp"), 0)
    start = data.find(_JXL, box) + len(_JXL)
    bits = _Bits(int.from_bytes(data[start : start + 12], "little"))
    if start < len(_JXL) or len(data) < start + 2:
        raise UnreadableImage("damaged: a JPEG XL without a picture")
    small = bits.take(1)

    def length() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.take((9, 13, 18, 30)[bits.take(2)]) + 1

    height = length()
    ratio = bits.take(3)
    across, down = [(0, 1), (1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)][ratio]
    return height * across // down if ratio else length(), height


class _Bits:
    """Bits of a number, taken from the lowest one on."""

    def __init__(self, bits: int) -> None:
        self._bits = bits

    def take(self, count: int) -> int:
        taken = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return taken

"""What can be wrong with a user's input. Every message is one line: place, bad value, rule."""

import unicodedata


class FfdiError(Exception):
    """Something the user can mend; stages print it on one line and exit with 1."""


class ParamsError(FfdiError):
    """params.yaml holds an unknown key, a wrong type or a name that does not exist."""


class ExportError(ParamsError):
    """A prefix that ONNX Runtime cannot compute."""


class InputError(FfdiError):
    """Images, label files or tables that cannot be used."""


class LeakError(FfdiError):
    """The audit found images that stand on both sides of a border."""


class WeightsError(FfdiError):
    """A checkpoint that cannot be reached, read or loaded into its network."""


class ShardError(FfdiError):
    """Feature shards that are missing, damaged or of another backbone."""


class BundleError(FfdiError):
    """A trained recipe whose files are missing or changed."""


class LockedError(FfdiError):
    """Another process is writing to the same output folder."""


def one_line(error: BaseException) -> str:
    """The message of another library's error, which may have several lines or be empty, on one."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    """The text with what would break a line or act on a terminal as escapes: names of files may hold anything."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    acts = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape", "surrogatepass").decode() if acts else character

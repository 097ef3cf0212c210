"""What can be wrong with a user's input. Every message is one line: place, bad value, rule."""

import errno
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager


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


class PolicyError(FfdiError):
    """A threshold or an abstain band that the scores at hand cannot give."""


class LockedError(FfdiError):
    """Another process is writing to the same output folder."""


class StorageError(FfdiError):
    """Files at a URL that cannot be reached, read or written."""


class NoFileError(StorageError):
    """There is no such file, folder or bucket at a URL."""


class LostRaceError(StorageError):
    """Another process has written a file at a URL first."""


class NetworkError(FfdiError):
    """The code of a network fails on what it is given: at this cut, at this image size, in train mode."""


# What the user can do where the system refuses; errors of other numbers are faults of the code.
SYSTEM_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "change the permissions, or name another path",
    errno.EPERM: "change the permissions, or name another path",
    errno.EROFS: "name a path on a disk that can be written",
    errno.EIO: "the disk fails: copy what it has to another one",
    errno.ESTALE: "the network disk went away: mount it again",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}


def first_cause(error: BaseException) -> BaseException:
    """What an error was raised from in the end: an exporter's own errors are a page long."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def said(error: OSError) -> str:
    """What the system says of a file, with what to do where that is known."""
    reason, remedy = error.strerror or str(error), SYSTEM_REMEDIES.get(error.errno or 0)
    return f"{reason}: {remedy}" if remedy else reason


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Put `place: ` before the message of a FfdiError of the body; its class stays."""
    try:
        yield
    except FfdiError as error:
        raise type(error)(f"{place}: {error}") from error


@contextmanager
def network_code(place: str) -> Iterator[None]:
    """Make of what a network's own code raises a NetworkError on one line; `place` names the network, its cut and size.

    Only an error that comes out of a module's call, or of its gradient, is the network's; another one passes, and so does
    one of memory that ran out.
    """
    try:
        yield
    except (FfdiError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError" or not _is_of_network(error):
            raise
        what = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise NetworkError(f"{place}: the network's code fails ({what}): try another cut or image_size") from error


def _is_of_network(error: BaseException) -> bool:
    """Whether the error was raised while a module was called, or its gradient computed."""
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename.replace("\\", "/")
        if file.endswith(("torch/nn/modules/module.py", "torch/autograd/graph.py")):
            return True
        frame = frame.tb_next
    return False


def one_line(error: BaseException) -> str:
    """The message of another library's error, which may have several lines or be empty, on one."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    """The text with what would break a line or act on a terminal as escapes: names of files may hold anything."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    acts = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape", "surrogatepass").decode() if acts else character

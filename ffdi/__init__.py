"""Train and judge deepfake-image detectors cheaply and honestly.

`__all__` is the public interface; everything else may change. A trained model is used by two lines:

detector = ffdi.load("data/models/mobilenet_v2")
table = detector.predict(["photo.jpg"])         # a pandas.DataFrame: path, score, verdict, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffdi.errors import FfdiError

if TYPE_CHECKING:
    from ffdi.deploy.detector import Detector, load

    __version__: str

__all__ = ["Detector", "FfdiError", "__version__", "load"]


def __getattr__(name: str) -> object:
    """What loads torch, when it is first asked for: `import ffdi` is quick."""
    if name == "__version__":
        from importlib.metadata import version

        return version("ffdi")
    if name in __all__:
        from ffdi.deploy import detector

        return getattr(detector, name)
    raise AttributeError(f"module 'ffdi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""Reason-then-segment: a picture and an expression in, a mask or an honest "not there" out.

    >>> import gensegcli
    >>> with gensegcli.load("demo") as pipeline:                       # doctest: +SKIP
    ...     prediction = pipeline.predict("scene.png", "the red circle")

Importing this package is cheap: every public name is loaded on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gensegcli.errors import ExitCode, GensegError
    from gensegcli.loading import load
    from gensegcli.pipeline import Pipeline
    from gensegcli.records import Failure, Prediction
    from gensegcli.requests import Request

__version__ = "0.1.0"

_HOME_OF = {
    "ExitCode": "gensegcli.errors",
    "Failure": "gensegcli.records",
    "GensegError": "gensegcli.errors",
    "Pipeline": "gensegcli.pipeline",
    "Prediction": "gensegcli.records",
    "Request": "gensegcli.requests",
    "load": "gensegcli.loading",
}

__all__ = ["ExitCode", "Failure", "GensegError", "Pipeline", "Prediction", "Request", "__version__", "load"]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Loading a folder through transformers: quietly, and with every way the folder can be wrong told to the user."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gensegcli.checkpoints import read_json, read_sizes
from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


_WITH_SIZES = frozenset({"config.json", "processor_config.json", "preprocessor_config.json"})

FAULTS = (OSError, ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError, AssertionError)
"""What libraries raise over a folder whose files are JSON and weights, but not of a model that they can build."""


def check_files(kind: str, folder: Path) -> None:
    """Look at every JSON file and every header of weights in a model's folder.

    Args:
        kind: `policy` or `segmenter`, for the message.
        folder: where the files are.

    Raises:
        GensegError: a file that is damaged, by its name.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.json")):
        (read_sizes if path.name in _WITH_SIZES else read_json)(path)
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass  # opening reads the header and compares it with the size of the file
        except (OSError, SafetensorError) as error:
            raise bad_folder(kind, folder, f"cannot be loaded: {path.name} is damaged ({error})") from error


def load_weights(kind: str, folder: Path, load: Callable[..., Any], **settings: Any) -> Any:
    """The model of a folder.

    Args:
        kind: see `check_files`.
        folder: see `check_files`.
        load: `from_pretrained` of a model class.
        settings: further arguments for it.

    Raises:
        GensegError: damaged, missing or unfitting weights.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from torch import OutOfMemoryError

    check_files(kind, folder)
    try:
        with quiet_progress():  # the caller names the phases
            model, loading = load(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **settings
            )
    except OutOfMemoryError:
        raise
    except (*FAULTS, SafetensorError, StrictDataclassError) as error:
        raise bad_folder(kind, folder, f"cannot be loaded: {first_line(error)}") from error
    if loading["missing_keys"]:
        # transformers only warns and goes on with random weights in their place.
        missing = sorted(loading["missing_keys"])
        raise bad_folder(kind, folder, f"lacks {len(missing)} weights, the first {missing[0]}")
    return model


def load_processor(kind: str, folder: Path, load: Callable[..., Any]) -> Any:
    """The processor of a folder by `from_pretrained` of its class; see `load_weights`."""
    from huggingface_hub.errors import StrictDataclassError

    check_files(kind, folder)
    try:
        return load(folder, local_files_only=True)
    except Exception as error:
        # tokenizers raises this very class over its files; what is derived from it is told only if it is a known fault.
        if type(error) is not Exception and not isinstance(error, (*FAULTS, StrictDataclassError)):
            raise
        raise bad_folder(kind, folder, f"has a processor that cannot be loaded: {first_line(error)}") from error


def bad_folder(kind: str, folder: Path, what: str) -> GensegError:
    """The error for a folder that is no working model; `what` goes on after its name."""
    return GensegError(
        f"{kind} folder {folder} {what}",
        hint="expected a folder as transformers saves a model and its processor; fetch or save it again",
        code=ExitCode.NOT_FOUND,
    )


@contextmanager
def quiet_progress() -> Generator[None]:
    """Turn off the progress bars of transformers for a while."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The first line of what an exception says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

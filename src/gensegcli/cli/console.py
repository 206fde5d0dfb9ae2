"""Words for people, on stderr. stdout belongs to data, and here it is kept for them."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from gensegcli.harmless import printable, visible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from typing_extensions import Buffer

    from gensegcli.errors import GensegError


class ReaderGoneError(Exception):
    """Whoever read the output (`| head`) has gone. Other pipes that break, an engine's for one, are not meant."""


class UnwritableError(OSError):
    """The output cannot be written: its disk is full, for one."""


def say(text: str) -> None:
    """One line for the person who waits."""
    try:
        print(visible(text), file=sys.stderr, flush=True)
    except BrokenPipeError as gone:
        raise ReaderGoneError from gone


def error(problem: GensegError) -> None:
    """`error: …` and, if there is one, `hint: …`; always one line each."""
    failed(problem.message, problem.hint)


def failed(message: str, hint: str = "") -> None:
    """The same two lines for a failure that is a value."""
    say(f"error: {printable(message)}")
    if hint:
        say(f"hint: {printable(hint)}")


class Shown:
    """A text stream that shows control characters and has nothing obey them: names, servers and models write them.

    Everything that goes to stdout and stderr passes through one, whoever writes it: a table, a log line, a traceback.
    What has to move the cursor, a progress bar, takes `screen`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> _ShownBytes:
        return _ShownBytes(self.stream, self.stream.buffer)


class _ShownBytes:
    """The same for UTF-8, written in whole characters."""

    def __init__(self, stream: TextIO, buffer: BinaryIO) -> None:
        self._stream, self._buffer = stream, buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)

    def write(self, data: Buffer) -> int:
        self._stream.flush()
        text = bytes(data).decode("utf-8", "surrogateescape")
        self._buffer.write(visible(text).encode())
        return len(bytes(data))


def shown(stream: TextIO) -> TextIO:
    """The stream without its control characters; one that is so already as it is."""
    return stream if isinstance(stream, Shown) else cast("TextIO", Shown(stream))


def screen() -> TextIO:
    """Stderr as it is, for what draws on the terminal; the texts it draws have to be `visible`."""
    return sys.stderr.stream if isinstance(sys.stderr, Shown) else sys.stderr


@contextmanager
def shown_stderr() -> Generator[None]:
    """Show what is written to stderr while the block runs."""
    before = sys.stderr
    sys.stderr = shown(before)
    try:
        yield
    finally:
        sys.stderr = before


class _Output(io.FileIO):
    """A descriptor that data is written to; tells a reader that has gone from every other broken pipe."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as gone:
            raise ReaderGoneError from gone
        except OSError as error:
            raise UnwritableError(error.errno, error.strerror) from error


@contextmanager
def guarded_stdout() -> Generator[None]:
    """Let writes to stdout raise `ReaderGoneError` or `UnwritableError` while the block runs, and show control characters in them."""
    before = sys.stdout
    try:
        output = _Output(before.fileno(), "w", closefd=False)
    except (io.UnsupportedOperation, AttributeError):  # replaced by a caller in this process, who sees what comes
        sys.stdout = shown(before)
        try:
            yield
        finally:
            sys.stdout = before
        return
    before.flush()
    stream = io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=getattr(before, "line_buffering", False),
        write_through=getattr(before, "write_through", False),
    )
    sys.stdout = shown(stream)
    try:
        try:
            yield
        finally:  # also before an exit
            sys.stdout.flush()
    except (ReaderGoneError, UnwritableError):
        discard_stdout()  # what is left in the buffers needs a place to go
        raise
    finally:
        sys.stdout.flush()
        sys.stdout = before


@contextmanager
def data_stream() -> Generator[TextIO]:
    """The real stdout, while everything else that is printed there goes to stderr.

    Engines and the processes they start log to stdout as they like (vLLM does by default), and a line of theirs in the
    middle of `--json > predictions.jsonl` would spoil the file. So descriptor 1 is lent to stderr for the time.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (io.UnsupportedOperation, AttributeError):  # replaced by a caller in this process, who sees what comes
        yield shown(sys.stdout)
        return
    sys.stdout.flush()
    kept = os.dup(descriptor)
    os.dup2(sys.stderr.fileno(), descriptor)
    try:
        # UTF-8 whatever the locale says: JSON is nothing else, and a table must not fail at a letter.
        output = io.BufferedWriter(_Output(kept, "w", closefd=False))
        with io.TextIOWrapper(output, encoding="utf-8") as stream:
            yield shown(stream)
    finally:
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def hush() -> None:
    """Silence the progress bars and notices of the libraries; before they are imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # Missing parts of libraries that nothing asked for: TRL imports vLLM, and vLLM wants Triton; PyTorch looks for CUDA.
    for name in ("vllm", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # TRL says that the settings by which it loads the reference model are ignored: those of the policy are.
    logging.getLogger("trl.trainer.grpo_trainer").addFilter(_not_about_model_settings)


def _not_about_model_settings(record: logging.LogRecord) -> bool:
    return "`model_init_kwargs` will be ignored" not in record.getMessage()


def discard_stdout() -> None:
    """Point stdout at the null device, after its reader has gone away."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)

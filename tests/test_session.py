"""The guards that conftest.py and pyproject.toml put around every test do hold."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path

import pytest
from pytest_socket import SocketConnectBlockedError


def test_sockets_to_other_machines_are_refused() -> None:
    # 192.0.2.0/24 is reserved for documentation: nobody is there even if the guard were gone.
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection(("192.0.2.1", 80), timeout=0.2)


def test_sockets_to_this_machine_are_allowed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_the_hub_is_offline() -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    assert constants.HF_HUB_OFFLINE is True


def test_a_warning_is_an_error() -> None:
    with pytest.raises(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)


def test_real_data_is_skipped_with_a_reason_where_it_is_absent(pytester: pytest.Pytester) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(conftest)
    pytester.makepyfile("def test_real(shared_data):\n    assert shared_data.is_dir()\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENSEG_TEST_DATA", str(pytester.path / "absent"))
        skipped = pytester.runpytest_subprocess("-rs")
        patch.setenv("GENSEG_TEST_DATA", str(pytester.mkdir("present")))
        present = pytester.runpytest_subprocess()
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines(["*no real data at *absent*GENSEG_TEST_DATA*"])
    present.assert_outcomes(passed=1)

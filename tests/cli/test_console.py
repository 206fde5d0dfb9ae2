"""What libraries say that nobody asked for is not shown; what matters is."""

from __future__ import annotations

import subprocess
import sys

SAYS = """
import logging
from gensegcli.cli.console import hush
logging.basicConfig(format="%(message)s")
hush()
for name in ("vllm", "torch.utils.cpp_extension"):
    logging.getLogger(name).warning("notice of %s", name)
    logging.getLogger(name).error("error of %s", name)
trl = logging.getLogger("trl.trainer.grpo_trainer")
trl.warning("The `model_init_kwargs` will be ignored.")
trl.warning("the model was cut")
"""


def test_notices_are_silenced_and_errors_are_not() -> None:
    said = subprocess.run([sys.executable, "-c", SAYS], check=True, capture_output=True, text=True).stderr
    assert said.splitlines() == ["error of vllm", "error of torch.utils.cpp_extension", "the model was cut"]

"""How long `--help` takes, beside a bare `import typer` and beside the command lines of transformers and trl.

Every command runs `--rounds` times, the commands interleaved so that a busy moment hits all alike; medians of wall time.
The bar: no `genseg … --help` takes more than three times the bare import of the same run.

    python benchmarks/startup.py [--rounds 15] [--json] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR = 3.0
BARE = "python -c 'import typer'"
PEERS = ("transformers", "trl")
PEER_ROUNDS = 3
"""Peers take seconds each; three rounds show it."""


def commands() -> dict[str, list[str]]:
    """Name → argument list of everything measured; peers only where they are installed beside this Python."""
    from gensegcli.cli.app import CommandTable

    found = {BARE: [sys.executable, "-c", "import typer"]}
    paths = [[]]
    for name, command in CommandTable().items():
        paths += [[name], *([name, inner] for inner in getattr(command, "commands", {}))]
    for path in paths:
        found[" ".join(["genseg", *path, "--help"])] = [sys.executable, "-m", "gensegcli", *path, "--help"]
    folder = str(Path(sys.executable).parent)
    for peer in PEERS:
        if program := shutil.which(peer, path=folder):
            found[f"{peer} --help"] = [program, "--help"]
    return found


def measure(rounds: int) -> dict[str, float | None]:
    """Median wall time in milliseconds of every command, interleaved, after one unmeasured round that fills caches.

    None for a peer that does not start here (the command line of transformers needs packages that its library does not).
    """
    measured = commands()
    times: dict[str, list[float]] = {name: [] for name in measured}
    broken: set[str] = set()
    for turn in range(rounds + 1):
        for name, arguments in measured.items():
            peer = name.split()[0] in PEERS
            if name in broken or (peer and turn > PEER_ROUNDS):
                continue
            begin = time.perf_counter()
            done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=_quiet())
            elapsed = time.perf_counter() - begin
            if done.returncode != 0:
                if not peer:
                    raise SystemExit(f"{name} left with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
                broken.add(name)
            elif turn > 0:
                times[name].append(elapsed * 1000)
    return {name: statistics.median(values) if values else None for name, values in times.items()}


def _quiet() -> dict[str, str]:
    """The environment with hub and trackers silenced: nobody's network belongs in the figures."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def table(medians: dict[str, float | None]) -> str:
    """One Markdown table, in the order of measurement."""
    bare = medians[BARE] or 0.0
    rows = [
        f"| `{name}` | {value:.0f} | {value / bare:.2f} |" if value else f"| `{name}` | does not start here | – |"
        for name, value in medians.items()
    ]
    return "\n".join(["| command | median, ms | × bare import |", "|---|---:|---:|", *rows])


def above_bar(medians: dict[str, float | None]) -> list[str]:
    """The genseg commands that take more than BAR times the bare import."""
    limit = BAR * (medians[BARE] or 0.0)
    return [name for name, value in medians.items() if name.startswith("genseg") and value and value > limit]


def main() -> int:
    """Measure, print; with --check leave with 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="times each command runs")
    parser.add_argument("--json", action="store_true", help="print medians in ms as JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="leave with 1 where a genseg command misses the bar")
    asked = parser.parse_args()
    medians = measure(asked.rounds)
    print(json.dumps(medians) if asked.json else table(medians))
    slow = above_bar(medians)
    if slow:
        print(f"above {BAR:g} times the bare import: {', '.join(slow)}", file=sys.stderr)
    return int(asked.check and bool(slow))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m gensegcli` is `genseg`."""

from __future__ import annotations

from gensegcli.cli.app import main

if __name__ == "__main__":
    main()

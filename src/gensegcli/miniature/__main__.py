"""`python -m gensegcli.miniature`: train the bundled models from nothing; run again to go on after an interruption."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from gensegcli.families import BUNDLED
from gensegcli.miniature import teach_policy, teach_segmenter
from gensegcli.miniature.teaching import teach

TEACHERS = {
    "segmenter": lambda: teach_segmenter.SegmenterTeacher(teach_segmenter.Recipe()),
    "policy": lambda: teach_policy.PolicyTeacher(teach_policy.Recipe()),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gensegcli.miniature", description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*TEACHERS, []], help="which to train; both by default")
    parser.add_argument("--work", type=Path, default=Path("runs/miniature"), help="checkpoints and curves")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="where the finished folders go")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.which or TEACHERS:
        print(f"{name}: checkpoints and curve in {options.work}")
        teacher = TEACHERS[name]()
        teach(teacher, options.work / f"{name}.pt")
        teacher.save(options.out / name)
        print(f"{name}: written to {options.out / name}")


if __name__ == "__main__":
    main()

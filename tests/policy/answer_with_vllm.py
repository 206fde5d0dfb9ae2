"""Ask vLLM in a process of its own, and write down what it said: `python -m tests.policy.answer_with_vllm FOLDER OUT`.

A process of its own, because vLLM's imports warn (warnings are errors in the tests) and its engine forks.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from gensegcli.policy import EngineOptions, load_policy
from gensegcli.records import Sampling
from tests.policy.pictures import mixed_questions

MAX_TOKENS = 32


def main(folder: str, out: str) -> None:
    policy, _ = load_policy(folder, backend="vllm", options=EngineOptions(dtype="float32", max_model_len=1024))
    questions = mixed_questions()
    greedy = policy.generate(questions, Sampling(max_tokens=MAX_TOKENS))
    drawn = policy.generate(questions[:2], Sampling(temperature=1.0, n=2, max_tokens=8, seed=1))
    again = policy.generate(questions[:2], Sampling(temperature=1.0, n=2, max_tokens=8, seed=1))
    policy.close()
    said = {"greedy": greedy, "drawn": drawn, "again": again}
    plain = {name: [[asdict(answer) for answer in row] for row in rows] for name, rows in said.items()}
    Path(out).write_text(json.dumps(plain))


if __name__ == "__main__":
    main(*sys.argv[1:])

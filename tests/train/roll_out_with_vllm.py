"""Train with rollouts of vLLM, in a process of its own: `python -m tests.train.roll_out_with_vllm VERB SCENES FOLDER`.

A process of its own, because vLLM's imports warn (warnings are errors in the tests), and a process has one engine.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensegcli.config import resolve
from gensegcli.errors import GensegError
from gensegcli.train.plan import Plan
from gensegcli.train.run import build, train
from gensegcli.train.trainer import Journal
from tests.checkpoints import build_qwen3_vl
from tests.train.conftest import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 3
RUN, CALLS, REFUSALS, POLICY = "run", "calls.json", "refusals.json", "policy"


def plan(scenes: str, *assignments: str) -> Plan:
    """Steps so large that the weights of each are told apart by what they write."""
    ours = ("train.lr=1e-3", "train.save_steps=1", "train.max_response_tokens=96", "train.rollout_memory=0.1")
    settings = resolve(preset="demo", assignments=[f"train.data={scenes}", *SMALL, *ours, *assignments])
    return Plan.of(settings, limit=2 * STEPS)


def untied(scenes: str, folder: Path) -> None:
    """As `trained`, a policy of random weights whose output head is not its embedding.

    All it writes is nonsense and earns the same: what moves its weights is a bonus on entropy.
    """
    build_qwen3_vl(folder / POLICY)
    settings = (f"model.name={folder / POLICY}", "segmenter.name=demo", "train.entropy_coef=1")
    trained(scenes, folder, *settings, "train.max_prompt_tokens=2048", "train.max_response_tokens=24")


def trained(scenes: str, folder: Path, *settings: str) -> None:
    """Train, or go on; write down what the engine was asked and said, and what it would have said greedily."""
    from gensegcli.train.vllm_engine import RolloutEngine

    calls: list[dict[str, Any]] = []
    generate = RolloutEngine.generate

    def recorded(engine: Any, prompts: Any, images: Any, *others: Any, **named: Any) -> Any:
        said = generate(engine, prompts, images, *others, **named)
        temperature, engine.temperature = engine.temperature, 0.0
        greedy = generate(engine, prompts, images, *others, **named)[1]
        engine.temperature = temperature
        for number, (image,) in enumerate(images):
            image.save(folder / f"{len(calls)}-{number}.png")
        logs = [[one for (one,) in row] for row in said[2]]
        calls.append({"prompts": prompts, "seen": said[0], "completions": said[1], "logs": logs, "greedy": greedy})
        return said

    RolloutEngine.generate = recorded
    train(plan(scenes, "train.rollout=colocate", *settings), folder / RUN)
    (folder / CALLS).write_text(json.dumps(calls))


def refused(scenes: str, folder: Path) -> None:
    """Write down the errors of servers that cannot be used, and of an engine that sees pictures at another size."""
    from gensegcli.train import vllm_engine

    found = {}
    asked = plan(scenes)
    trainer: Any = build(asked, folder / "server", Journal(folder / "server", asked.passport(), writes=False))
    trainer.args.vllm_mode, trainer.args.vllm_server_timeout = "server", 0.0
    trainer.args.vllm_max_model_length = 152
    for name, answers in SERVERS.items():
        with Standin(answers) as url:
            trainer.args.vllm_server_base_url = url
            found[name] = _error(vllm_engine.RolloutEngine, trainer, asked.policy.entry)
    trainer.args.vllm_server_base_url = url
    found["nobody"] = _error(vllm_engine.RolloutEngine, trainer, asked.policy.entry)
    trainer.args.vllm_server_base_url = None
    found["no address"] = _error(vllm_engine.RolloutEngine, trainer, asked.policy.entry)

    class Shortsighted(vllm_engine.RolloutEngine):
        def __init__(self, trainer: Any, entry: Any) -> None:
            super().__init__(trainer, replace(entry, min_pixels=400, max_pixels=6000))

    vllm_engine.RolloutEngine = Shortsighted
    found["size"] = _error(train, plan(scenes, "train.rollout=colocate"), folder / "shortsighted")
    (folder / REFUSALS).write_text(json.dumps(found))


def _error(call: Any, *given: Any) -> dict[str, Any] | None:
    try:
        call(*given)
    except GensegError as error:
        return {"message": error.message, "hint": error.hint, "code": error.code}
    return None


def _info(*, model: str = "elsewhere/policy", context: int = 1024, transfer: Any = None) -> dict[str, Any]:
    served = {"model": model, "max_model_len": context, "logprobs_mode": "processed_logprobs"}
    return {"vllm_config": {"model_config": served, "weight_transfer_config": transfer}}


SERVERS: dict[str, dict[str, Any]] = {
    "not for development": {},
    "another model": {"/server_info": _info(model="Qwen/Qwen3-VL-4B-Instruct")},
    "short": {"/server_info": _info(context=100)},
    "no transfer": {"/server_info": _info()},
    "no GPU": {"/server_info": _info(transfer={"backend": "nccl"}), "/get_world_size": {"world_size": 1}},
}
"""What servers of each kind answer beside `/health` and `/v1/models`, in vLLM's form; 404 for the rest."""


class Standin:
    """A server on 127.0.0.1 that answers from a table."""

    def __init__(self, answers: dict[str, Any]) -> None:
        answers = {"/health": {}, "/v1/models": {"data": [{"id": "theirs"}]}, **answers}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.get(self.path.partition("?")[0])
                self.send_response(404 if answer is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


VERBS: dict[str, Callable[[str, Path], None]] = {"train": trained, "untied": untied, "refuse": refused}

if __name__ == "__main__":
    verb, scenes, folder = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    VERBS[verb](scenes, Path(folder))

"""vLLM as the engine of rollouts: TRL's driver of it, told what TRL leaves to defaults, on every platform of vLLM."""

from __future__ import annotations

import json
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

# vLLM reads both when it is imported: no reports to its makers, and the engine in this process, beside the trainer.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from requests import RequestException
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import ensure_master_addr_port
from vllm import LLM
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.platforms import current_platform
from vllm.utils.network_utils import get_open_port

from gensegcli.download import public_form
from gensegcli.errors import ExitCode, GensegError
from gensegcli.train.questions import one_token_a_picture

if TYPE_CHECKING:
    from gensegcli.families import PolicyEntry
    from gensegcli.train.grpo import PolicyTrainer


class RolloutEngine(VLLMGeneration):
    """Writes completions with the weights that the trainer has at the moment.

    Args:
        trainer: whose weights and sampling are taken.
        entry: conventions of its policy: pictures are seen at its size.

    Raises:
        GensegError: vLLM cannot start with these settings, or the server cannot be used.
    """

    def __init__(self, trainer: PolicyTrainer, entry: PolicyEntry) -> None:
        args = trainer.args
        self.entry = entry
        self.picture_token = trainer._image_pad_token_id
        self.seed = args.seed
        # Of the trainer's forward pass, whatever the files say: rollouts and log-probabilities should be of one model.
        self.dtype = "bfloat16" if args.bf16 else "float32"
        super().__init__(
            model=trainer.model,
            accelerator=trainer.accelerator,
            processing_class=trainer.processing_class,
            mode=args.vllm_mode,
            server_base_url=args.vllm_server_base_url,
            server_timeout=args.vllm_server_timeout,
            gpu_memory_utilization=args.vllm_gpu_memory_utilization,
            max_model_length=args.vllm_max_model_length,
            max_num_seqs=args.per_device_train_batch_size * args.steps_per_generation,
            repetition_penalty=trainer.repetition_penalty,
            temperature=trainer.temperature,
            top_p=trainer.top_p,
            top_k=trainer.top_k,
            max_completion_length=trainer.max_completion_length,
            # A picture token in a completion would be one without a picture.
            generation_kwargs={"logit_bias": {self.picture_token: -100.0}},
        )

    def _init_vllm(self) -> None:
        (self._join if self.mode == "server" else self._start)()
        self.accelerator.wait_for_everyone()

    def _join(self) -> None:
        """Find the server, and open the channel by which it gets weights; the first process does so for all."""
        if self.server_base_url is None:
            raise GensegError("--rollout server needs the server's address", hint="--rollout-url http://HOST:8000")
        if not self.accelerator.is_main_process:
            return
        try:
            self.vllm_client = VLLMClient(
                base_url=self.server_base_url, group_port=self.group_port, connection_timeout=self.server_timeout
            )
            self._check_server(self.vllm_client.get_server_info()["model_config"])
            self.vllm_client.init_communicator(device=self.accelerator.device)
        # TRL's own words are RuntimeErrors: no development endpoints, no transfer engine, no GPU to send weights from.
        except (RequestException, RuntimeError) as error:
            raise self._refused(str(error).strip().splitlines()[0]) from error

    def _check_server(self, served: dict[str, Any]) -> None:
        """Refuse a server of another model, whose layers could not take this one's weights, or of too short a context."""
        theirs = served["model"]
        # By the last part: a folder may be mounted elsewhere on the server's machine.
        if PurePath(theirs).name not in {PurePath(name).name for name in (self.entry.source, self.model.name_or_path)}:
            raise self._refused(f"it serves {theirs}, and {self.entry.source} is trained")
        if served["max_model_len"] < (self.max_model_length or 0):
            raise self._refused(
                f"its context has {served['max_model_len']} tokens, prompts and completions {self.max_model_length}"
            )

    def _refused(self, why: str) -> GensegError:
        kwargs = json.dumps(self._picture_bounds())
        return GensegError(
            f"no rollouts from the vLLM server {public_form(self.server_base_url or '')}: {why}",
            hint=f"start it with VLLM_SERVER_DEV_MODE=1 vllm serve {self.entry.source} --enable-scale-out "
            f"--max-model-len {self.max_model_length} --mm-processor-kwargs '{kwargs}' --generation-config vllm "
            '--logprobs-mode processed_logprobs --weight-transfer-config \'{"backend": "nccl"}\', on a GPU, '
            "or take --rollout transformers",
            code=ExitCode.ENVIRONMENT,
        )

    def _picture_bounds(self) -> dict[str, int]:
        return {"min_pixels": self.entry.min_pixels, "max_pixels": self.entry.max_pixels}

    def _start(self) -> None:
        """Start vLLM in this process."""
        rank = self.accelerator.process_index
        # What vLLM expects of a launcher, also where there was none.
        os.environ["RANK"], os.environ["LOCAL_RANK"] = str(rank), str(self.accelerator.local_process_index)
        os.environ["WORLD_SIZE"] = str(self.accelerator.num_processes)
        if self.accelerator.num_processes == 1:
            # accelerate puts a fixed one there, and TRL tries it first: a second run on this machine would find it taken.
            os.environ["MASTER_PORT"] = str(get_open_port())
        ensure_master_addr_port()
        try:
            self.llm = LLM(
                model=self.model.name_or_path,
                # Weights only ever come from the trainer: were one left out, the parity guard would see noise.
                load_format="dummy",
                dtype=self.dtype,
                max_model_len=self.max_model_length,
                max_num_seqs=self.max_num_seqs,
                gpu_memory_utilization=self.gpu_memory_utilization,
                distributed_executor_backend="external_launcher",
                seed=self.seed + rank,
                max_num_batched_tokens=max(4096, self.max_model_length or 0),
                # Of the distribution that was sampled from: the importance sampling correction wants those.
                logprobs_mode="processed_logprobs",
                limit_mm_per_prompt={"image": 1, "video": 0},
                mm_processor_kwargs=self._picture_bounds(),
                # The checkpoint's sampling defaults must not leak in.
                generation_config="vllm",
                # Compiling pays on a GPU only.
                enforce_eager=current_platform.is_cpu(),
            )
        except (ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GensegError(
                f"vLLM could not start beside the trainer ({reason})",
                hint="its log above says more; train.rollout_memory bounds its share, or take --rollout transformers",
                code=ExitCode.ENVIRONMENT,
            ) from error
        self._llm_weights_sleeping = False

    def close(self) -> None:
        """End the engine in this process, and with it the process group that both have: nothing can be gathered then."""
        if self.mode == "colocate":
            self.llm.llm_engine.engine_core.shutdown()

    def generate(self, prompts: list[list[int]], *others: Any, **named: Any) -> tuple[Any, Any, Any, Any]:
        """Completions, as TRL's engine gives them, for prompts in which a picture has all its tokens."""
        if self.mode == "server":
            return super().generate(prompts, *others, **named)
        # vLLM puts a picture's tokens where it finds one of them, and TRL hands it all: it would add them once more
        # (trl#6294).
        once = [one_token_a_picture(ids, self.picture_token) for ids in prompts]
        return super().generate(once, *others, **named)

    def sync_weights(self) -> None:
        """Give the engine the trainer's weights; every process has to call it."""
        if self.mode == "colocate" and current_platform.is_cpu():
            self._rebuild()
        else:
            super().sync_weights()
        # TRL forgets what was computed of prompts, but not of pictures: their features would be of the old weights.
        if self.mode == "colocate":
            self.llm.llm_engine.reset_encoder_cache()
        elif self.accelerator.is_main_process:
            url = f"{self.vllm_client.base_url}/reset_encoder_cache"
            self.vllm_client.session.post(url).raise_for_status()

    def _rebuild(self) -> None:
        """What TRL does in place on a GPU, on a CPU.

        There vLLM packs weights for its kernels and lets go of the originals, so that nothing can be loaded into them one
        by one. Its reload builds each layer anew, and packs it.
        """
        runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
        runner.reload_weights(weights_iterator=self._iter_named_params())
        # A head that shares its weights with the embedding has no name to be loaded by: it is packed here.
        for layer in runner.model.modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)
        self.llm.reset_prefix_cache()

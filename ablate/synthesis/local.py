"""A language model in a local folder, run by transformers: greedy, one request at a time, no code of the folder's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ablate.reading import faults
from ablate.records import UserError
from ablate.store.integrity import sha256_of
from ablate.synthesis.answers import Reply, envelope
from ablate.synthesis.asking import Response, Task
from ablate.synthesis.prompts import Prompt


class LocalModel:
    """A causal model; raises UserError for a folder that holds none."""

    def __init__(self, folder: str, *, device: str) -> None:
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise UserError(
                f"--model {folder!r} holds no config.json; with --engine transformers give a model's folder"
            )
        content = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if file.is_file():
                content.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
        self.model, self.place = path.absolute().name, f"transformers:{content.hexdigest()}"
        import torch
        import transformers

        with faults(f"--model {folder!r} cannot be loaded", "give the folder of a causal model with its tokenizer"):
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            network: Any = transformers.AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
        self._tokenizer = tokenizer
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._network = network.to(chosen).eval()

    def body(self, messages: list[dict[str, str]], schema: type[Reply], prompt: Prompt, task: Task) -> dict[str, Any]:
        """Return what decides the answer; parameters but the limit of tokens mean nothing to greedy generation."""
        return {"model": self.model, "messages": messages, "max_tokens": prompt.most_tokens}

    async def send(self, body: dict[str, Any], ask: int) -> Response:
        """Return what the model says; a further ask of the same gives the same, as generation is greedy."""
        import torch

        if self._tokenizer.chat_template:
            ids = self._tokenizer.apply_chat_template(
                body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
        else:
            text = "\n\n".join(message["content"] for message in body["messages"])
            ids = self._tokenizer(f"{text}\n\n", return_tensors="pt")["input_ids"]
        ids = ids.to(self._network.device)
        length = getattr(self._network.config, "max_position_embeddings", None)
        if length is not None and ids.shape[1] + body["max_tokens"] > length:
            return Response(400, f'{{"error": {{"message": "{ids.shape[1]} tokens and the answer exceed {length}"}}}}')
        pad = self._tokenizer.pad_token_id
        with torch.inference_mode():
            out = self._network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=1,
                max_new_tokens=body["max_tokens"],
                pad_token_id=self._tokenizer.eos_token_id if pad is None else pad,
            )
        fresh = out[0, ids.shape[1] :]
        ended = self._tokenizer.eos_token_id is not None and bool((fresh == self._tokenizer.eos_token_id).any())
        text = self._tokenizer.decode(fresh, skip_special_tokens=True)
        cut = len(fresh) >= body["max_tokens"] and not ended
        return Response(200, envelope(text, (int(ids.shape[1]), len(fresh)), cut=cut))

    async def close(self) -> None:
        """Nothing is held but memory."""

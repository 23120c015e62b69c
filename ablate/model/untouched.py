"""The backbone of a run before any training: its tokenizer is opened once, its weights for every model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ablate.model.backbone import Backbone, check_targets, draw_tiny, inspect_pretrained
from ablate.model.encoder import BiEncoder
from ablate.model.static import find_table, open_tokenizer
from ablate.model.text import TextTemplate, tiny_tokenizer
from ablate.recipe.schema import ModelConfig
from ablate.timing import timed


class Untouched:
    """A backbone by its configuration; nothing of it is opened before it is asked for."""

    def __init__(
        self, backbone: Backbone, model: ModelConfig, seed: int, tokenizer_texts: Callable[[], Iterable[str]]
    ) -> None:
        """`tokenizer_texts` gives what a tiny model takes its vocabulary from; for other models none is read."""
        self._backbone, self._model, self._seed = backbone, model, seed
        self._tokenizer_texts = tokenizer_texts
        self._template: TextTemplate | None = None

    @property
    def template(self) -> TextTemplate:
        """How texts become tokens, without the weights of the model.

        Raises UserError when model, tokenizer and configuration do not fit each other.
        """
        if self._template is None:
            self._template = TextTemplate(self._model, self._inspected())
        return self._template

    @timed("load model")
    def encoder(self) -> BiEncoder:
        """Return the backbone as a bi-encoder of its own, in evaluation mode, in fp32, on the CPU.

        Raises UserError as `BiEncoder.from_config` does.
        """
        encoder = BiEncoder.from_config(
            self._model,
            seed=self._seed,
            tokenizer=None if self._template is None else self._template.tokenizer,
            tokenizer_texts=self._tokenizer_texts(),
        )
        self._template = self._template or encoder.template
        return encoder

    def _inspected(self) -> Any:
        """Return the tokenizer, once what can be said against the model without its weights was looked at."""
        tiny = self._model.tiny
        if self._model.static is not None:
            return open_tokenizer(find_table(Path(self._backbone.place)))
        if tiny is None:
            return inspect_pretrained(self._backbone, self._model)
        tokenizer = tiny_tokenizer(tiny, self._tokenizer_texts())
        if self._model.lora is not None:
            with torch.device("meta"):
                check_targets(draw_tiny(tiny, len(tokenizer), self._model, self._seed), self._model)
        return tokenizer

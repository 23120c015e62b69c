"""The other side: sentence-transformers with the same weights, batches, optimiser and texts.

What differs between its settings is a `Setting`; everything else is given equal to ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ablate.data.batches import Query
from ablate.model.text import TextTemplate
from ablate.records import Passage
from benchmarks.peer.material import WEIGHTS_FOLDER, Material

MINI_BATCH = 16
MINI_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Setting:
    """What a user of sentence-transformers can choose without changing what is computed, dropout apart."""

    precision: str = "fp32"
    attention: str = "sdpa"
    dropout: float = 0.1
    loss: str = "plain"
    """plain: MultipleNegativesRankingLoss. cached: with gradients cached, mini-batches of 16 texts. tokens: the same,
    mini-batches by tokens."""

    @property
    def words(self) -> str:
        """The setting for people."""
        loss = {"plain": "MNRL", "cached": f"Cached MNRL, {MINI_BATCH} texts", "tokens": "Cached MNRL, token budget"}
        return f"{self.precision}, {self.attention}, dropout {self.dropout:g}, {loss[self.loss]}"


DEFAULT = Setting()
"""all-MiniLM-L6-v2 as it is published, and the trainer as it comes."""


def candidates(precision: str, device: str) -> list[Setting]:
    """Return the settings among which the best one is looked for, all of the same precision and without dropout."""
    attentions = ["sdpa", "eager"]
    if device == "cuda" and precision == "bf16" and has_flash():
        attentions.append("flash_attention_2")  # with it the texts of a batch are not padded
    return [
        Setting(precision, attention, 0.0, loss) for attention in attentions for loss in ("plain", "cached", "tokens")
    ]


def has_flash() -> bool:
    """Return whether transformers finds FlashAttention here."""
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep sentence-transformers and transformers from telling what is meant so inside a block."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(level)


def open_model(material: Material, folder: Path, setting: Setting, device: str = "cpu") -> Any:
    """Return the SentenceTransformer on the weights of the material."""
    from sentence_transformers import SentenceTransformer

    kwargs: dict[str, Any] = {"attn_implementation": setting.attention}
    if setting.attention == "flash_attention_2":
        kwargs["dtype"] = torch.bfloat16
    dropout = {"hidden_dropout_prob": setting.dropout, "attention_probs_dropout_prob": setting.dropout}
    with quiet():
        model = SentenceTransformer(
            str(folder / WEIGHTS_FOLDER), device=device, model_kwargs=kwargs, config_kwargs=dropout
        )
    model.max_seq_length = material.model.passage_length
    return model


def network_of(model: Any) -> Any:
    """Return the transformers model inside of a SentenceTransformer."""
    return model[0].auto_model


def open_loss(model: Any, setting: Setting, temperature: float) -> Any:
    """Return the loss of a setting."""
    from sentence_transformers.sentence_transformer import losses

    scale = 1 / temperature
    if setting.loss == "plain":
        return losses.MultipleNegativesRankingLoss(model, scale=scale)
    tokens = MINI_BATCH_TOKENS if setting.loss == "tokens" else None
    return losses.CachedMultipleNegativesRankingLoss(
        model, scale=scale, mini_batch_size=MINI_BATCH, mini_batch_num_tokens=tokens
    )


def features(model: Any, material: Material, places: Sequence[int]) -> list[dict[str, Any]]:
    """Return the tokenised columns of a batch, as the trainer's collator makes them."""
    rows = material.rows
    return [model.preprocess([column[place] for place in places]) for column in rows.values()]


class Planned(torch.utils.data.BatchSampler):
    """Our batches, in our order."""

    def __init__(self, batches: Sequence[Sequence[int]]) -> None:
        """`batches` are places in the data set."""
        self._batches = [list(batch) for batch in batches]
        super().__init__(range(sum(map(len, batches))), max(map(len, batches)), drop_last=False)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def train(
    model: Any,
    material: Material,
    setting: Setting,
    work: Path,
    on_step: Callable[[], None] | None = None,
    device: str = "cpu",
) -> None:
    """Train a model with the trainer of sentence-transformers on the batches of the material, in one epoch of all."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    recipe = material.train
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work),
        num_train_epochs=1,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        max_grad_norm=recipe.clip_norm,
        bf16=setting.precision == "bf16",
        use_cpu=device == "cpu",
        seed=material.seed,
        batch_sampler=lambda dataset, **given: Planned(material.batches),
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )

    class Told(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if on_step is not None:
                on_step()

    with quiet():
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(material.rows),
            loss=open_loss(model, setting, recipe.temperature),
            callbacks=[Told()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


class PeerEncoder:
    """A SentenceTransformer behind the two methods that our evaluation asks for."""

    def __init__(self, model: Any, template: TextTemplate, batch_size: int = 32) -> None:
        """`template` makes the texts; 32 is the batch size that `encode` has by itself."""
        self._model, self._template, self._batch_size = model, template, batch_size

    def encode_queries(self, queries: Sequence[Query], *, progress: str | None = None) -> NDArray[np.float32]:
        """Return the vectors of (query, instruction) pairs."""
        return self._encode([self._template.query_text(*query) for query in queries])

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> NDArray[np.float32]:
        """Return the vectors of passages."""
        return self._encode([self._template.passage_text(passage) for passage in passages])

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = self._model.encode(
            texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

"""Vectors of the documents of one set, in memory or in shards on the disk, and the passages that each document has.

A set of more documents than a shard holds is encoded shard by shard into `<folder>/<first>-<end>.npy` (float32, written
by rename), each with a JSON file beside it, written last: that file alone says that the shard is complete, and holds
its counts and the digest of its documents. A killed evaluation finds its finished shards. Searching opens one shard at
a time, memory-mapped, so memory is bounded by a shard and not by the corpus.

Shapes: D documents, P passages (P = D when no document is split), H dimensions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ablate.recipe.schema import ExactIndex, Index
from ablate.records import Passage, UserError
from ablate.retrieval.rankings import FloatArray, IntArray
from ablate.store.drafts import draft_of
from ablate.store.files import write_atomically


class Encoder(Protocol):
    """What evaluation needs of a model: one float32 vector per text, comparable by inner product."""

    def encode_queries(
        self, queries: Sequence[tuple[str, str]], *, progress: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return (Q, H) float32 for Q pairs of query and instruction (empty: none)."""
        ...

    def encode_passages(self, passages: Sequence[Passage], *, progress: str | None = None) -> npt.NDArray[np.float32]:
        """Return (D, H) float32 for D passages."""
        ...


@runtime_checkable
class DocumentEncoder(Protocol):
    """What an encoder can offer beyond that: it splits long documents, or says how many of them it cut."""

    @property
    def block_size(self) -> int:
        """Documents that are batched together: blocks of this size can be encoded one by one, to the same bits."""
        ...

    def encode_documents(
        self,
        documents: Sequence[Passage],
        *,
        window: int | None = None,
        stride: int | None = None,
        progress: str | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
        """Return vectors (P, H), the number of passages of each document (D,), and how many documents lost text."""
        ...


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How documents become vectors and how these are searched; by default one passage each, in memory, exactly."""

    window: int | None = None
    """Tokens per passage of a longer document; null: none is split."""
    stride: int | None = None
    index: Index = ExactIndex(kind="exact")
    shard_size: int | None = None
    """Documents per shard; null: all in memory."""
    folder: Path | None = None
    """Where the folders of shards are, one for each set."""

    def of_set(self, name: str) -> Retrieval:
        """Return the same with the folder of one set."""
        folder = None if self.folder is None else self.folder / hashlib.sha256(name.encode()).hexdigest()[:16]
        return dataclasses.replace(self, folder=folder)


@dataclass(frozen=True, eq=False)
class DocumentVectors:
    """The vectors (P, H) of D documents in their order, in parts that lie in memory or in files."""

    parts: tuple[FloatArray | Path, ...]
    num_rows: tuple[int, ...]
    """Rows of each part."""
    passages: IntArray | None = None
    """(D,) passages of each document, at least one; None: one each."""
    num_cut: int | None = None
    """Documents that lost text because they were too long; None: the encoder does not say."""

    def __len__(self) -> int:
        return sum(self.num_rows)

    def __iter__(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, vectors) of each part, one at a time; those in files are mapped and let go again."""
        first = 0
        for part, num_rows in zip(self.parts, self.num_rows, strict=True):
            yield first, (np.load(part, mmap_mode="r").view(np.ndarray) if isinstance(part, Path) else part)
            first += num_rows

    def counts(self, num_documents: int) -> dict[str, float]:
        """Return what a reader must know: passages and documents split, or documents cut."""
        counts: dict[str, float] = {}
        if self.passages is not None and len(self) > num_documents:
            counts = {"documents split": int((self.passages > 1).sum()), "passages": len(self)}
        if self.num_cut is not None:
            counts["documents cut to length"] = self.num_cut
        return counts

    def warnings(self, num_documents: int, window: int | None) -> list[str]:
        """Return a line about documents that lost text."""
        if not self.num_cut:
            return []
        what = "documents are cut to the model's length" if window is None else "titles are cut to fit beside a window"
        remedy = "evaluation.window and evaluation.stride split them" if window is None else "a smaller window fits"
        return [f"{self.num_cut:,} of {num_documents:,} {what}, and the rest of their text is not read; {remedy}"]


def encode_all(
    encoder: Encoder, documents: Sequence[Passage], retrieval: Retrieval, *, progress: str | None = None
) -> DocumentVectors:
    """Encode the documents of one set, into shards when there are more than one shard holds.

    Raises UserError when the encoder cannot split documents and is asked to.
    """
    if retrieval.window is not None and not isinstance(encoder, DocumentEncoder):
        raise UserError(
            f"evaluation.window={retrieval.window} needs an encoder that splits documents, and "
            f"{type(encoder).__name__} does not; set evaluation.window=null evaluation.stride=null"
        )
    size = retrieval.shard_size
    if size is not None and isinstance(encoder, DocumentEncoder):
        size = math.ceil(size / encoder.block_size) * encoder.block_size
    if retrieval.folder is None or size is None or len(documents) <= size:
        vectors, passages, num_cut = _encode(encoder, documents, retrieval, progress)
        return DocumentVectors((vectors,), (len(vectors),), passages, num_cut)
    retrieval.folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, len(documents), size):
        part = documents[first : first + size]
        path = retrieval.folder / f"{first:010d}-{first + len(part):010d}.npy"
        name = None if progress is None else f"{progress} {first:,} to {first + len(part):,} of {len(documents):,}"
        shards.append((path, _shard(path, part) or _write(path, part, _encode(encoder, part, retrieval, name))))
    split = any(shard["passages"] is not None for _, shard in shards)
    passages = np.concatenate([shard["passages"] or [1] * shard["documents"] for _, shard in shards]) if split else None
    cut = [shard["cut"] for _, shard in shards]
    return DocumentVectors(
        tuple(path for path, _ in shards),
        tuple(shard["rows"] for _, shard in shards),
        passages,
        None if None in cut else sum(cut),
    )


def _encode(
    encoder: Encoder, documents: Sequence[Passage], retrieval: Retrieval, progress: str | None
) -> tuple[FloatArray, IntArray | None, int | None]:
    if not isinstance(encoder, DocumentEncoder):
        return encoder.encode_passages(documents, progress=progress), None, None
    vectors, passages, num_cut = encoder.encode_documents(
        documents, window=retrieval.window, stride=retrieval.stride, progress=progress
    )
    return vectors, passages if retrieval.window is not None else None, num_cut


def _digest(documents: Sequence[Passage]) -> str:
    """Return the SHA-256 of the ids of documents in their order, each followed by a line feed."""
    hashed = hashlib.sha256()
    for document in documents:
        hashed.update(f"{document.doc_id}\n".encode())
    return hashed.hexdigest()


def _shard(path: Path, documents: Sequence[Passage]) -> dict[str, Any] | None:
    """Return what is known of a finished shard of these documents, or None when there is none."""
    try:
        known: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        stored = np.load(path, mmap_mode="r")
        same = known["sha256_of_ids"] == _digest(documents) and stored.shape == (known["rows"], known["dimensions"])
    except (OSError, ValueError, KeyError):
        return None
    return known if same and stored.dtype == np.float32 else None


def _write(
    path: Path, documents: Sequence[Passage], encoded: tuple[FloatArray, IntArray | None, int | None]
) -> dict[str, Any]:
    vectors, passages, num_cut = encoded
    draft = draft_of(path, ".npy")
    try:
        with open(draft, "wb") as file:
            np.save(file, np.ascontiguousarray(vectors), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    known = {
        "documents": len(documents),
        "rows": vectors.shape[0],
        "dimensions": vectors.shape[1],
        "passages": None if passages is None else passages.tolist(),
        "cut": num_cut,
        "sha256_of_ids": _digest(documents),
    }
    write_atomically(path.with_suffix(".json"), json.dumps(known))
    return known

"""Token ids of texts that were tokenised before, kept on the disk for all runs on one folder of results.

    <results>/cache/tokens/<key>/<content>.ids

The key stands for the tokenizer and the length to which texts are cut. A file holds the texts that one process
tokenised together, and is written once, by rename: a head (magic, number of texts N, number of ids T, SHA-256 of the
rest), N digests of texts (16 bytes), N + 1 ends (int64), T ids (int32). It is mapped, not read into memory. One whose
head or sum is wrong is removed and its texts are tokenised again, so the folder may be damaged or deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ablate.records import UserError
from ablate.store.drafts import draft_of
from ablate.store.files import TOKENS

if TYPE_CHECKING:
    from ablate.store.results import ResultStore

IntArray = NDArray[np.int32]

MOST_TEXTS = 200_000
"""Texts that are kept under one key; those beyond are tokenised every time, as a large corpus is."""

_MAGIC = b"ablate-ids-1"
_HEAD = struct.Struct("<12sQQ32s")
_DIGEST_BYTES = 16


class KeptTokens:
    """The ids of texts under one tokenizer and length; each is made once, whichever process asks first."""

    def __init__(self, store: ResultStore, key: str) -> None:
        """Nothing is opened or written before the first text is asked for."""
        self._folder = store.cache / TOKENS / key
        self._lock = store.lock(f"{TOKENS}-{key}")  # cannot be copied
        self._places: dict[bytes, tuple[IntArray, int, int]] = {}
        """Digest of a text -> the ids of its file, and where its own begin and end."""
        self._read: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptTokens:
        """Return the same: copies of a model share what is kept."""
        return self

    def ids_of(self, texts: Sequence[str], make: Callable[[list[str]], Sequence[Sequence[int]]]) -> list[IntArray]:
        """Return the ids of texts; `make` tokenises those that are not kept, which other processes wait for.

        A disk that takes nothing more costs time alone.
        """
        digests = [hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest() for text in texts]
        if any(digest not in self._places for digest in digests):
            self._open()
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._places}
        made: dict[bytes, IntArray] = {}
        if missing and len(self._places) + len(missing) > MOST_TEXTS:
            made = _made(missing, make)
        elif missing:
            made = self._add(missing, make)
        return [made[digest] if digest in made else self._kept(digest) for digest in digests]

    def _kept(self, digest: bytes) -> IntArray:
        ids, start, end = self._places[digest]
        return ids[start:end]

    def _add(
        self, missing: dict[bytes, str], make: Callable[[list[str]], Sequence[Sequence[int]]]
    ) -> dict[bytes, IntArray]:
        """Make and keep what no other process kept meanwhile, and return what was made here."""
        with contextlib.ExitStack() as held:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(self._lock)
            except (OSError, UserError):  # nothing can be written, or no lock be made there
                return _made(missing, make)
            self._open()
            made = _made({digest: text for digest, text in missing.items() if digest not in self._places}, make)
            if made:
                with contextlib.suppress(OSError):
                    self._write(made)
            return made

    def _open(self) -> None:
        """Take in the files that came since the last look; what is damaged goes."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.name.endswith(".ids"))
        except OSError:
            return
        for name in names:
            if name in self._read or name.startswith("."):
                continue
            parts = _parts_of(self._folder / name)
            if parts is None:
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()
                continue
            self._read.add(name)
            digests, ends, ids = parts
            for row, digest in enumerate(digests):
                self._places[digest] = ids, ends[row], ends[row + 1]

    def _write(self, made: dict[bytes, IntArray]) -> None:
        ends = np.cumsum([0, *map(len, made.values())], dtype=np.int64)
        body = b"".join((b"".join(made), ends.tobytes(), *(ids.tobytes() for ids in made.values())))
        sha256 = hashlib.sha256(body).digest()
        path = self._folder / f"{sha256.hex()[:32]}.ids"
        draft = draft_of(path)
        try:
            with open(draft, "wb") as file:
                file.write(_HEAD.pack(_MAGIC, len(made), int(ends[-1]), sha256) + body)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def _made(texts: dict[bytes, str], make: Callable[[list[str]], Sequence[Sequence[int]]]) -> dict[bytes, IntArray]:
    if not texts:
        return {}
    return {digest: np.array(ids, np.int32) for digest, ids in zip(texts, make(list(texts.values())), strict=True)}


def _parts_of(path: Path) -> tuple[list[bytes], list[int], IntArray] | None:
    """Return digests, ends and ids of a file, or None where it is not what was written."""
    try:
        content = np.memmap(path, np.uint8, "r").view(np.ndarray)
        magic, num_texts, num_ids, sha256 = _HEAD.unpack(content[: _HEAD.size].tobytes())
    except (OSError, ValueError, struct.error):
        return None
    body = content[_HEAD.size :]
    sizes = (_DIGEST_BYTES * num_texts, 8 * (num_texts + 1), 4 * num_ids)
    if magic != _MAGIC or sum(sizes) != len(body) or hashlib.sha256(body.tobytes()).digest() != sha256:
        return None
    text_digests, ends, ids = np.split(body, np.cumsum(sizes[:2]))
    packed = text_digests.tobytes()
    digests = [packed[start : start + _DIGEST_BYTES] for start in range(0, len(packed), _DIGEST_BYTES)]
    return digests, np.frombuffer(ends.tobytes(), np.int64).tolist(), ids.view(np.int32)


def tokenizer_key(tokenizer: Any, length: int) -> str | None:
    """Return what stands for a tokenizer and the number of ids that texts are cut to; None: not all of it is known.

    Known is a tokenizer that is a pipeline of the tokenizers library and nothing beside it.
    """
    import tokenizers

    if not tokenizer.is_fast:
        return None
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    for state in ("truncation", "padding"):  # of the last call, and not used here
        pipeline.pop(state, None)
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    known = [pipeline, kind, getattr(tokenizer, "split_special_tokens", False), tokenizers.__version__, length]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

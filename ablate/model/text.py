"""From query, instruction and passage to token ids, exactly as the model configuration says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablate.data.batches import IntArray, Query, Tokenised
from ablate.model.tokens import KeptTokens, tokenizer_key
from ablate.recipe.schema import ModelConfig, TinyModel
from ablate.records import Passage, UserError
from ablate.timing import timed

if TYPE_CHECKING:
    from ablate.store.results import ResultStore

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Windows(NamedTuple):
    """Token ids of the passages of some documents, special tokens included, in the order of the documents."""

    ids: list[IntArray]
    num_passages: list[int]
    """Of each document, at least one."""
    num_truncated: int
    """Documents whose title was cut."""


class TextTemplate:
    """Builds the text of a query or a passage and turns it into token ids of bounded length."""

    def __init__(self, model: ModelConfig, tokenizer: Any) -> None:
        """Read the tokenizer's special tokens, which a static table has none of around a text.

        Raises UserError when `append_eos` asks for a token that the tokenizer has not.
        """
        self._model, self.tokenizer = model, tokenizer
        self._head, self._tail = ([], []) if model.static is not None else _special_ids(tokenizer)
        if model.append_eos:
            eos = tokenizer.eos_token_id
            if eos is None:
                raise UserError(
                    f"model.append_eos=true but the tokenizer of model.name={model.name!r} has no end-of-text token; "
                    "set model.append_eos=false"
                )
            if self._tail[-1:] != [eos]:
                self._tail = [*self._tail, eos]
        for name, length in (("query_length", model.query_length), ("passage_length", model.passage_length)):
            if length <= len(self._head) + len(self._tail):
                raise UserError(
                    f"model.{name}={length} leaves no room beside {len(self._head) + len(self._tail)} special tokens; "
                    "raise it"
                )
        self._store: ResultStore | None = None
        self._kept: dict[int, KeptTokens | None] = {}
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def keep_tokens(self, store: ResultStore) -> None:
        """Keep the token ids of texts in a folder of results, and take from there what is kept already."""
        self._store = store

    @property
    def special_ids(self) -> tuple[list[int], list[int]]:
        """The token ids before and after every text."""
        return list(self._head), list(self._tail)

    def query_text(self, query: str, instruction: str) -> str:
        """Return prefix, query and instruction in the configured order; no separator without an instruction."""
        model = self._model
        if not instruction:
            return model.query_prefix + query
        parts = (query, instruction) if model.order == "query_first" else (instruction, query)
        return model.query_prefix + model.separator.join(parts)

    def passage_text(self, passage: Passage) -> str:
        """Return prefix, title and text; no gap without a title."""
        return self._model.passage_prefix + (f"{passage.title} {passage.text}" if passage.title else passage.text)

    @timed("tokenise")
    def tokenise_queries(self, queries: Sequence[Query]) -> Tokenised:
        """Return the token ids of (query, instruction) pairs, at most `query_length` each, closing tokens kept."""
        return self._tokenise([self.query_text(*query) for query in queries], self._model.query_length)

    @timed("tokenise")
    def tokenise_passages(self, passages: Sequence[Passage]) -> Tokenised:
        """Return the token ids of passages, at most `passage_length` each, closing tokens kept."""
        return self._tokenise([self.passage_text(passage) for passage in passages], self._model.passage_length)

    @timed("tokenise")
    def tokenise_windows(self, passages: Sequence[Passage], window: int, stride: int) -> Windows:
        """Return the token ids of documents, one passage each where at most `window` tokens of text are left.

        A longer document becomes passages of `window` tokens of its text that begin every `stride` tokens, the last
        one shorter, until all tokens are covered; each carries prefix and title, as in Dai & Callan (arXiv 1905.09217,
        section 3), and the special tokens. Tokens are those of the whole text. A title that does not fit beside the
        window is cut at its end. Raises UserError when the prefix does not fit, or the tokenizer gives no offsets.
        """
        room = self._model.passage_length - len(self._head) - len(self._tail) - window
        if not self.tokenizer.is_fast:
            raise UserError(
                f"evaluation.window={window} needs a tokenizer that says which characters a token stands for, and that "
                f"of model.name={self._model.name!r} does not; set evaluation.window=null evaluation.stride=null"
            )
        prefix = len(self._bare([self._model.passage_prefix])["input_ids"][0]) if self._model.passage_prefix else 0
        if room < prefix:
            raise UserError(
                f"evaluation.window={window} leaves {room} of model.passage_length={self._model.passage_length} tokens "
                f"beside special tokens, and the prefix of passages has {prefix}; lower the window or raise the length"
            )
        ids: list[IntArray] = []
        numbers: list[int] = []
        num_cut = 0
        if passages:
            bare = self._bare([self.passage_text(passage) for passage in passages], offsets=True)
            for passage, own, offsets in zip(passages, bare["input_ids"], bare["offset_mapping"], strict=True):
                end = len(self._model.passage_prefix + passage.title)
                before = next((place for place, (_, stop) in enumerate(offsets) if stop > end), len(own))
                text = own[before:]
                room_here = room + max(0, window - len(text))
                lead = own[: min(before, room_here)]
                num_cut += before > room_here
                starts = range(0, max(len(text) - window, 0) + stride, stride)
                ids += [
                    np.array([*self._head, *lead, *text[start : start + window], *self._tail], np.int32)
                    for start in starts
                ]
                numbers.append(len(starts))
        return Windows(ids, numbers, num_cut)

    def _bare(self, texts: list[str], *, offsets: bool = False) -> Any:
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=offsets,
            verbose=False,
        )

    def _bare_ids(self, texts: list[str], length: int) -> Sequence[Sequence[int] | IntArray]:
        """Return the ids of texts without special tokens, at least the first `length` of each."""

        def make(missing: list[str]) -> list[list[int]]:
            return [own[:length] for own in self._bare(missing)["input_ids"]]

        if length not in self._kept and self._store is not None:
            key = None if self._model.trust_remote_code else tokenizer_key(self.tokenizer, length)
            self._kept[length] = None if key is None else KeptTokens(self._store, key)
        kept = self._kept.get(length)
        return make(texts) if kept is None else kept.ids_of(texts, make)

    def _tokenise(self, texts: list[str], length: int) -> Tokenised:
        if not texts:
            return Tokenised([], 0)
        room = length - len(self._head) - len(self._tail)
        bare = self._bare_ids(texts, room + 1)
        head, tail = np.array(self._head, np.int32), np.array(self._tail, np.int32)
        ids = [np.concatenate((head, np.asarray(own[:room], np.int32), tail)) for own in bare]
        return Tokenised(ids, sum(len(own) > room for own in bare))


def _special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text."""
    full = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return list(full[:start]), list(full[start + len(bare) :])
    raise UserError("the tokenizer changes a text when it adds special tokens; choose a model whose tokenizer does not")


@timed("make tokenizer")
def tiny_tokenizer(tiny: TinyModel, texts: Iterable[str]) -> Any:
    """Return a WordPiece tokenizer whose vocabulary is taken from texts, the same in every process.

    The vocabulary holds the special tokens, every character of the texts and all letters and digits of ASCII (alone
    and as a continuation), and the most frequent words up to `tiny.vocabulary` entries, ties in alphabetical order.
    The trainer of the tokenizers library is not used: its vocabulary differs between processes, because ties fall in
    the order of a randomly keyed hash map. Raises UserError when there are no texts or the characters alone exceed
    the vocabulary.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    if not words:
        raise UserError("model.tiny needs texts to take its vocabulary from, and there are none")
    characters = sorted(set(ascii_lowercase + digits).union(*words))
    entries = dict.fromkeys([*SPECIAL_TOKENS, *characters, *(f"##{character}" for character in characters)])
    if len(entries) > tiny.vocabulary:
        raise UserError(
            f"model.tiny.vocabulary={tiny.vocabulary} is smaller than the {len(entries)} special tokens and characters "
            f"of the texts; raise it to at least {len(entries)}"
        )
    for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        if len(entries) == tiny.vocabulary:
            break
        entries.setdefault(word)
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )

"""Look at what a trained model finds: the top documents of a query with and without an instruction, side by side.

python -m ablate.search STUDY/ARM:SEED "query" --instruction "condition" [--corpus corpus.jsonl] [--top 10]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.export import add_trust
from ablate.records import Passage, UserError
from ablate.release.finished import FinishedRun, find_run
from ablate.store.drafts import draft_of
from ablate.store.files import disk_trouble
from ablate.store.integrity import UNREADABLE
from ablate.store.results import ResultStore
from ablate.terminal import one_line, safe_output

if TYPE_CHECKING:
    from ablate.model.encoder import BiEncoder
    from ablate.retrieval.rankings import Ranking

NARROWEST = 60
"""Columns of a terminal below which nothing is cut further."""
TEXT_LINES = 2
"""Lines of a document's first words."""
ARROWS = {"up": "↑", "down": "↓", "to": "→", "same": "=", "cut": "…"}
PLAIN_ARROWS = {"up": "^", "down": "v", "to": ">", "same": "=", "cut": "~"}
"""For an output that cannot show arrows."""


@dataclass(frozen=True)
class Corpus:
    """Documents to search, and what they are called."""

    name: str
    documents: dict[str, Passage]
    """doc_id -> document, in a fixed order."""

    @property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over ids, titles and texts in order."""
        hashed = hashlib.sha256()
        for passage in self.documents.values():
            hashed.update(json.dumps([passage.doc_id, passage.title, passage.text]).encode() + b"\n")
        return hashed.hexdigest()[:16]


def corpus_of_file(path: Path) -> Corpus:
    """Return the documents of a BEIR corpus file; raises UserError, with its line, for whatever is broken."""
    from ablate.data.beir_files import read_corpus

    return Corpus(str(path), read_corpus(path, hashlib.sha256()))


def corpus_of_run(run: FinishedRun, name: str | None) -> Corpus:
    """Return the documents of an evaluation set of a run: the one of this name, or the first one of its recipe.

    Raises UserError for an unknown name, and when the source is not there or not what the run was trained with.
    """
    from ablate.data.sources import open_sets

    evaluation = run.recipe.evaluation
    chosen = evaluation.sets[0] if name is None else name
    if chosen not in evaluation.sets:
        raise UserError(f"--set {chosen!r} is not one of this run's evaluation sets: {', '.join(evaluation.sets)}")
    try:
        source = open_sets(evaluation.source or run.recipe.source, evaluation.sets, run.store.cache)
        if evaluation.source is None and source.revision != run.mix.recipe["source"]["revision"]:
            raise UserError("its source has another content now than when it was trained")
        bed = source.evaluation_set(chosen)
    except UserError as error:
        raise UserError(f"the documents of run {run.manifest.id} cannot be read: {error}; or give --corpus") from error
    return Corpus(bed.name, {passage.doc_id: passage for passage in bed.documents})


def vectors_of(run: FinishedRun, encoder: BiEncoder, corpus: Corpus) -> Any:
    """Return the vectors (D, H) of a corpus, from the results folder where they are known, else encoded and kept."""
    import numpy as np

    path, of = run.store.vectors(run.manifest.id, corpus.digest), f"{run.manifest.id} {corpus.digest}"
    shape = (len(corpus.documents), encoder.hidden_size)
    if path.is_file():
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # each member has a checksum
                known, said = file["vectors"], str(file["of"])
        except (*UNREADABLE, zipfile.BadZipFile):
            known, said = np.empty(0), ""
        if said == of and known.shape == shape and known.dtype == np.float32 and np.isfinite(known).all():
            return known
        print(f"{path} is not readable as vectors of this corpus: encoding again", file=sys.stderr)
    vectors = encoder.encode_passages(list(corpus.documents.values()), progress=f"{corpus.name}: documents")
    draft = draft_of(path)
    with run.store.tolerating_no_space(f"the vectors of {corpus.name} are not kept"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(draft, "wb") as file:
                np.savez(file, allow_pickle=False, vectors=vectors, of=np.array(of))
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    return vectors


def find(
    run: FinishedRun, encoder: BiEncoder, corpus: Corpus, query: str, instruction: str
) -> tuple[list[Ranking], bool]:
    """Return the rankings of all documents without and with the instruction, and whether the query had to be cut.

    One ranking when there is no instruction.
    """
    from ablate.model.device import resolve_device
    from ablate.retrieval.exact import search

    encoder.to(resolve_device("auto"))
    posed = [(query, "")] + ([(query, instruction)] if instruction else [])
    vectors = vectors_of(run, encoder, corpus)
    names = ["without", "with"][: len(posed)]
    rankings = search(vectors, encoder.encode_queries(posed), list(corpus.documents), names, len(corpus.documents))
    return rankings, encoder.template.tokenise_queries(posed).num_truncated > 0


def side_by_side(
    corpus: Corpus, rankings: Sequence[Ranking], *, top: int, width: int, arrows: dict[str, str] = ARROWS
) -> str:
    """Return the top documents as text no wider than `width` columns: two columns, or one without an instruction.

    Left: rank, where the document stands with the instruction, score, title, first words. Right: rank, by how many
    ranks it moved, score, title, first words.
    """
    width = max(width, NARROWEST)
    top = min(top, len(corpus.documents))
    if len(rankings) == 1:
        (only,) = rankings
        entries = (_entry(corpus, only, place, "", width, arrows) for place in range(top))
        return "\n".join(line.rstrip() for lines in entries for line in lines)
    column = (width - 3) // 2
    plain, instructed = rankings
    place_of = [{doc_id: place for place, doc_id in enumerate(ranking.doc_ids)} for ranking in rankings]
    lines = [f"{_fit('without the instruction', column, arrows)} | with the instruction"]
    lines.append(f"{'-' * column}-+-{'-' * column}")
    for place in range(top):
        later = place_of[1][plain.doc_ids[place]]
        before = place_of[0][instructed.doc_ids[place]]
        left = _entry(corpus, plain, place, f"{arrows['to']}{later + 1}", column, arrows)
        right = _entry(corpus, instructed, place, _moved(before - place, arrows), column, arrows)
        lines += [f"{line} | {other}".rstrip() for line, other in zip(left, right, strict=True)]
    fresh = sum(place_of[0][doc_id] >= top for doc_id in instructed.doc_ids[:top])
    lines += ["", f"{fresh} of the top {top} with the instruction are not in the top {top} without it"]
    lines.append(
        f"{arrows['to']}n: its rank with the instruction; {arrows['up']}n, {arrows['down']}n: moved up, down by n "
        f"ranks; {arrows['same']}: same rank"
    )
    return "\n".join(lines)


def _moved(ranks: int, arrows: dict[str, str]) -> str:
    if ranks == 0:
        return arrows["same"]
    return f"{arrows['up' if ranks > 0 else 'down']}{abs(ranks)}"


def _entry(
    corpus: Corpus, ranking: Ranking, place: int, movement: str, width: int, arrows: dict[str, str]
) -> list[str]:
    """Return the lines of a document: rank, movement, score and title (its id where it has none); first words."""
    doc_id = ranking.doc_ids[place]
    document = corpus.documents[doc_id]
    head = f"{place + 1:>3} {movement:<6} {ranking.scores[place]:>6.3f}  {_printable(document.title or doc_id)}"
    words, lines = _printable(document.text).split(" "), list[str]()
    while len(lines) < TEXT_LINES - 1:
        line = "   "
        while words and _columns(line) + 1 + _columns(words[0]) <= width:
            line += f" {words.pop(0)}"
        if not line.strip():  # a word longer than the line, or nothing is left
            break
        lines.append(line)
    lines.append(f"    {' '.join(words)}")
    lines += [""] * (TEXT_LINES - len(lines))
    return [_fit(line, width, arrows) for line in (head, *lines)]


def _printable(text: str) -> str:
    """Return a text as one line without control characters, which could write anywhere on a terminal."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))


def _columns(text: str) -> int:
    """Return the terminal columns of a text; wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text: str, width: int, arrows: dict[str, str]) -> str:
    """Return a text cut or filled to a number of terminal columns."""
    if _columns(text) <= width:
        return text + " " * (width - _columns(text))
    kept = text
    while _columns(kept) > width - 1:
        kept = kept[:width] if len(kept) > 2 * width else kept[:-1]
    return kept + arrows["cut"] + " " * (width - 1 - _columns(kept))


def _arrows_for(encoding: str | None) -> dict[str, str]:
    try:
        "".join(ARROWS.values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN_ARROWS
    return ARROWS


def main(arguments: Sequence[str] | None = None) -> int:
    """Search once, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ablate.search",
        description="The top documents of a query with and without an instruction, side by side.",
        epilog="Example: python -m ablate.search single_runs/dual_view:0 'archivist role' "
        "--instruction 'Show me a job that comes with a permanent contract.'",
    )
    parser.add_argument("run", metavar="RUN", help="a train id, the beginning of one, or study/arm:seed")
    parser.add_argument("query", help="the short request")
    parser.add_argument("--instruction", default="", help="the condition of relevance; without it, one column")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--corpus", type=Path, help="corpus.jsonl in BEIR's form (default: the run's evaluation set)")
    where.add_argument("--set", help="which of the run's evaluation sets (default: its first)")
    parser.add_argument("--top", type=int, default=10, help="documents to show (default: 10)")
    parser.add_argument("--results", default="results", help="folder of results (default: results)")
    add_trust(parser)
    with safe_output():
        return _search(parser.parse_args(arguments))


def _search(options: argparse.Namespace) -> int:
    try:
        if options.top < 1:
            raise UserError(f"--top {options.top} shows nothing; give 1 or more")
        if not options.query.strip():
            raise UserError("the query is empty; give at least a word")
        run = find_run(ResultStore(options.results), options.run)
        run.loadable(trust_remote_code=options.trust_remote_code)
        corpus = corpus_of_file(options.corpus) if options.corpus else corpus_of_run(run, options.set)
        encoder = run.encoder(trust_remote_code=options.trust_remote_code)
        rankings, cut = find(run, encoder, corpus, options.query, options.instruction)
    except (UserError, OSError) as error:
        message = (disk_trouble(error) or str(error)) if isinstance(error, OSError) else str(error)
        print(f"error: {one_line(message)}", file=sys.stderr)
        return 2
    table = side_by_side(
        corpus,
        rankings,
        top=options.top,
        width=shutil.get_terminal_size().columns,
        arrows=_arrows_for(sys.stdout.encoding),
    )
    names = ", ".join(run.manifest.labels)
    lines = [f"run {run.manifest.id} ({names}, seed {run.manifest.seed})"]
    lines.append(f"documents    {len(corpus.documents):,} of {corpus.name}")
    lines.append(f"query        {_printable(options.query)}")
    lines += [f"instruction  {_printable(options.instruction)}"] if options.instruction else []
    if cut:
        lines.append(f"note: cut to {run.recipe.model.query_length} tokens (model.query_length): the end is not read")
    encoding = sys.stdout.encoding or "ascii"
    print("\n".join([*lines, "", table]).encode(encoding, "replace").decode(encoding))
    return 0


if __name__ == "__main__":
    sys.exit(main())

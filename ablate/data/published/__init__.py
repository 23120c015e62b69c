"""Rows in files as sources: Promptriever's rows, Tevatron's records, InF-IR's triples, and what synthesis wrote.

    files or hub (`reader`) -> records -> format (promptriever, tevatron, infir, synthesized) -> SourceRow, Passage

Every pass streams: `rows` holds one record at a time, `passages` only the passages that are asked for. A mix needs
three passes (two over the rows, one over the passages), so its memory is that of its budget, not that of the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

from ablate.data.published.fields import PassageIds
from ablate.data.published.infir import InfIr
from ablate.data.published.promptriever import Promptriever
from ablate.data.published.reader import HubSet, LocalFiles, Record, Records
from ablate.data.published.synthesized import Synthesized
from ablate.data.published.tevatron import Tevatron
from ablate.records import EvaluationSet, Passage, SourceRow, UserError

__all__ = ["Format", "PublishedRows", "open_published"]


class Format(Protocol):
    """How a record is read: which fields, which rows and passages it gives."""

    @property
    def fields(self) -> Sequence[str]:
        """Names of the fields that are read, those that a record may lack included."""

    def rows(self, record: Record, number: int, dropped: Counter[str]) -> Iterator[SourceRow]:
        """Yield the rows of a record (the `number`-th of the set, from 0) and count what is dropped."""

    def passages(self, record: Record) -> Iterator[Passage]:
        """Yield all passages of a record."""

    def generated(self, doc_id: str) -> bool | None:
        """Return whether an id is that of a generated passage; None when ids do not say."""


class PublishedRows:
    """Records of a published set as a `RowSource` without evaluation sets."""

    evaluation_names: tuple[str, ...] = ()

    def __init__(self, records: Records, format: Format) -> None:
        self._records, self._format = records, format
        self.dropped: Counter[str] = Counter()
        """What the last pass over `rows` left out: reason -> rows or passages."""

    @property
    def revision(self) -> str:
        """What ids hold for the content: a digest of the local files, or the commit of a repository on the hub."""
        return self._records.revision

    def rows(self) -> Iterator[SourceRow]:
        """Yield all rows, in the order of the records; raises UserError, with file and line, for a broken record."""
        dropped: Counter[str] = Counter()
        self.dropped = dropped
        for number, record in enumerate(self._records.records(self._format.fields)):
            yield from self._format.rows(record, number, dropped)

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the passages of these ids, in the order asked; one whole pass over the records.

        Raises UserError for an unknown id and for an id that stands for two texts.
        """
        asked = tuple(doc_ids)
        hits: dict[str, tuple[Passage, Record] | None] = dict.fromkeys(asked)
        for record in self._records.records(self._format.fields):
            for passage in self._format.passages(record):
                if passage.doc_id not in hits:
                    continue
                first = hits[passage.doc_id]
                if first is None:
                    hits[passage.doc_id] = passage, record._replace(values={})
                elif first[0].text != passage.text:
                    raise record.error(
                        f"docid {passage.doc_id!r} stands for another text here than at {first[1].place}; give each "
                        f"text its own docid, or set source.passage_ids=docid_and_text"
                    )
        for doc_id in asked:
            hit = hits[doc_id]
            if hit is None:
                raise UserError(f"document {doc_id!r} is in no record of the source; give an id that its rows name")
            yield hit[0]

    def generated(self, doc_id: str) -> bool | None:
        """Return what the ids of the format say."""
        return self._format.generated(doc_id)

    def style_of(self, doc_id: str) -> str | None:
        """Return None: no format says."""
        return None

    def documents(self) -> Iterator[Passage]:
        """Yield every passage once, where it stands first; holds the ids of all that were seen."""
        seen: set[str] = set()
        for record in self._records.records(self._format.fields):
            for passage in self._format.passages(record):
                if passage.doc_id not in seen:
                    seen.add(passage.doc_id)
                    yield passage

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Raise UserError: a published training set has no evaluation set."""
        raise UserError(
            f"there is no evaluation set {name!r}: a published training set has none; name a source that has some in "
            f"evaluation.source"
        )


def open_published(
    *,
    format: Literal["promptriever", "tevatron", "infir", "synthesized"],
    path: str | None = None,
    repo: str | None = None,
    revision: str | None = None,
    subset: str | None = None,
    split: str = "train",
    records: Literal["instructed", "plain", "all"] = "all",
    min_positive_score: float | None = None,
    max_negative_score: float | None = None,
    other_queries: bool = False,
    passage_ids: PassageIds = "docid",
) -> PublishedRows:
    """Return a published set as a source of rows; raises UserError when place or thresholds are not usable.

    The place is either `path` (a file, or a folder of files: .jsonl, .jsonl.gz or .parquet) or `repo` on the hub, with
    `revision` (a commit, 40 hex digits), `subset` (None: the default one) and `split`. Promptriever's rows alone take
    `records`, `min_positive_score` and `max_negative_score` (None: keep all; see `Promptriever`), InF-IR's alone
    `other_queries`. `passage_ids` says how passages with an id are told apart; InF-IR's have no ids, and those of
    synthesized rows are unique.
    """
    if (path is None) == (repo is None):
        raise UserError(
            f"source.path={path!r} and source.repo={repo!r}: give one of them, local files or a set on the hub"
        )
    place: Records
    if repo is not None:
        place = HubSet(repo, revision=revision, subset=subset, split=split)
    else:
        assert path is not None
        place = LocalFiles(path)
    if other_queries and format != "infir":
        raise UserError(f"source.other_queries=true: records of format {format} have one query; set it to false")
    if format == "promptriever":
        return PublishedRows(
            place,
            Promptriever(
                records=records,
                min_positive_score=min_positive_score,
                max_negative_score=max_negative_score,
                passage_ids=passage_ids,
            ),
        )
    if records != "all" or min_positive_score is not None or max_negative_score is not None:
        raise UserError(
            f"source.records={records}, min_positive_score={min_positive_score}, "
            f"max_negative_score={max_negative_score}: records of format {format} have no instructed twins and no "
            f"scores; leave these at all, null, null"
        )
    if format == "tevatron":
        return PublishedRows(place, Tevatron(passage_ids=passage_ids))
    if format == "synthesized":
        if passage_ids != "docid":
            raise UserError(
                f"source.passage_ids={passage_ids}: rows of format synthesized name docids; set it to docid"
            )
        return PublishedRows(place, Synthesized())
    return PublishedRows(place, InfIr(other_queries=other_queries))

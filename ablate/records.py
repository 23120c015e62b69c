"""The vocabulary of the project: small frozen types, standard library only.

Words follow the glossary in docs/architecture.md. Every other module speaks in these types.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

View = Literal["plain", "original", "reversed"]
"""Form of a training row: bare query, with its own instruction, or under the complementary instruction."""

Condition = Literal["plain", "original", "changed", "reversed"]
"""How a query is posed at evaluation: bare; with the broad instruction; with a narrowing instruction; with its
complement."""

CONDITIONS: tuple[Condition, ...] = ("plain", "original", "changed", "reversed")


class UserError(ValueError):
    """A mistake in what the user gave; its text names the thing, the value and the remedy in one line."""


def check_name(what: str, text: str) -> None:
    """Raise UserError for a text that cannot be the name of a study or an arm: these become labels and file names."""
    wrong = (
        "is empty"
        if not text.strip()
        else "has a slash"
        if "/" in text
        else "means a folder"
        if text in (".", "..")
        else "begins or ends with white space"
        if text != text.strip()
        else "has a character that cannot be printed"
        if not text.isprintable()
        else ""
    )
    if wrong:
        raise UserError(f"{what}={text!r} {wrong}; it must be a name without a slash, such as dual_view")


def check_results(text: str) -> None:
    """Raise UserError for an empty name of the folder of results, which would mean the current folder."""
    if not text:
        raise UserError(
            "the folder of results (runtime.results, --results) is '', which would mean the current folder; name it, "
            "or write . for that folder"
        )


class Passage(NamedTuple):
    """A unit that is encoded and retrieved."""

    doc_id: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """What a source knows about one base row: a query, an instruction and the passages whose labels they decide."""

    row_id: str
    """Unique among the rows of a source."""
    query_id: str
    """The base query; rows that share it share `query` and count as one unique query."""
    query: str
    instruction: str
    """Condition that the positives satisfy and the instruction negatives break; empty when the source has none."""
    reversed_instruction: str
    """Complement of `instruction`: positives[0] and instruction_negatives[0] swap labels; empty when there is none."""
    paraphrase: str
    """Another wording of `instruction` with the same labels; empty when there is none."""
    positives: tuple[str, ...]
    hard_negatives: tuple[str, ...]
    """Topically close, not relevant to the bare query."""
    instruction_negatives: tuple[str, ...]
    """Answer the query and break `instruction`; the first is the partner of a reversal."""
    still_negative: tuple[str, ...] = ()
    """Those of instruction_negatives[1:] that break `reversed_instruction` too."""
    answers: tuple[str, ...] = ()
    """Every document known to answer the bare query: never an in-batch negative of this query unless listed."""
    asks_usual: bool | None = None
    """Whether `instruction` asks for the usual side of its constraint, the one that `source.skew` is the share of; None
    where the source has no such side."""
    broad: str = ""
    """The instruction before it is narrowed, which every answer satisfies; empty when there is none."""
    restyled: tuple[str, ...] = ()
    """The contents of `of_both_sides` in another style, one passage each; empty where the source has none."""

    @property
    def of_both_sides(self) -> tuple[str, ...]:
        """The positives, then the instruction negatives."""
        return self.positives + self.instruction_negatives

    def in_other_style(self, doc_ids: Iterable[str]) -> tuple[str, ...]:
        """Return some of `of_both_sides` in their other style."""
        other = dict(zip(self.of_both_sides, self.restyled, strict=True))
        return tuple(other[doc_id] for doc_id in doc_ids)

    def in_any_style(self, doc_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return some of `of_both_sides`, and their other styles where the source has them."""
        return doc_ids + (self.in_other_style(doc_ids) if self.restyled else ())


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One training row: a query as it is posed, its positives and its negatives (document ids)."""

    group_id: str
    """Unique within a mix; a row and its reversed twin share everything before the last `/`."""
    query_id: str
    query: str
    instruction: str
    """Empty for a plain row."""
    view: View
    positives: tuple[str, ...]
    hard_negatives: tuple[str, ...]
    instruction_negatives: tuple[str, ...]
    answers: tuple[str, ...] = ()
    """Documents known to answer the bare query: masked in the batch unless listed in one of the fields above."""

    @property
    def negatives(self) -> tuple[str, ...]:
        """Instruction negatives first, then hard negatives."""
        return self.instruction_negatives + self.hard_negatives


class EvaluationQuery(NamedTuple):
    """One query as it is posed to the retriever."""

    query_id: str
    base_id: str
    """The base query: unit of p-MRR, group of Robustness@k."""
    query: str
    instruction: str
    condition: Condition
    direction: str
    """Which instruction this is (`after`, `before`, …): p-MRR is reported for each direction by itself."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A test bed: documents, queries under each condition, and their labels."""

    name: str
    """For example `world/test` or `movies/dev`: the `dataset` of every score."""
    documents: tuple[Passage, ...]
    queries: tuple[EvaluationQuery, ...]
    qrels: dict[str, dict[str, int]]
    """query_id -> doc_id -> grade; a query without an entry is unjudged."""
    changed_documents: dict[str, tuple[str, ...]]
    """query_id of a changed or reversed query -> documents relevant under the original instruction and not under
    this one (FollowIR's qrel_diff)."""
    opposites: tuple[tuple[str, str], ...]
    """(changed query_id, reversed query_id): two instructions that are each other's complement."""
    pairs: dict[tuple[str, str], tuple[tuple[str, str], ...]] | None = None
    """opposite -> (document right for the first, document right for the second); None: every such pair that the
    qrels imply."""
    candidates: dict[str, tuple[str, ...]] | None = None
    """query_id -> the only documents that are ranked for it (reranking benchmarks); None: all documents."""
    own_documents: dict[str, str] = field(default_factory=dict)
    """query_id -> the document that is the query itself and is left out of its ranking; it need not be in the set."""
    plain_of: dict[str, str] = field(default_factory=dict)
    """base_id -> the plain query that it narrows, where that is none of the same base query: several instructions that
    are base queries of their own narrow one."""
    measures: tuple[str, ...] = ()
    """Measures per query that this set asks for, such as `nDCG@5`; the usual ones need not be named."""
    provenance: dict[str, str] = field(default_factory=dict)
    """What must be known of where the data is from: name -> value, kept with the scores."""
    remarks: tuple[str, ...] = ()
    """What stands above the scores of this set as a warning."""
    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    """Kind of cluster (`constraint`, `template`, `topic` …) -> base_id -> the cluster that it belongs to. The kind
    `form` is a fixed stratum; `kind` only describes. A base query may lack a kind."""


class QueryScore(NamedTuple):
    """One value of one measure for one unit; the atom of every analysis."""

    dataset: str
    condition: str
    direction: str
    unit_id: str
    """The query for nDCG, RR and AP; the base query for p-MRR, Robustness@k and pairs."""
    measure: str
    value: float

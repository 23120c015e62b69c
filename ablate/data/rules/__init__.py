"""Constraints on the metadata of any BEIR folder: instructions with complements and exact labels.

    plain query and its relevant documents -> for each rule: bound chosen, documents that satisfy / violate it
        -> base rows (train split): disjoint pairs of a satisfying and a violating document
        -> evaluation sets: plain, broad, rule (`decade`), complement (`not-decade`)

A document answers an instruction when it is relevant for the plain query and the program says that it satisfies the
constraint. Plain queries and their labels are the folder's, or written from its metadata (`ablate.data.rules.plain`);
instructions that the folder has are not used. Where rules have wordings that are held out for evaluation, a split is
posed twice: `test` with those, and `test_seen` with the wordings of training.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.data.beir_files import BROAD, PLAIN, OwnDocument, Query
from ablate.data.rules.plain import read_plain, write_plain
from ablate.data.rules.values import Value, distance, read_values, satisfied, settle, worded
from ablate.randomness import choose, key, uniform
from ablate.recipe.grammar import Pick, clause_taken, num_choices
from ablate.recipe.rules import Constraint, Rule, Wording, check_rules
from ablate.recipe.topics import WrittenQueries
from ablate.records import Condition, EvaluationQuery, EvaluationSet, Passage, SourceRow, UserError

__all__ = ["Case", "RuleSource"]

SEEN = "_seen"
"""Ends the name of a set that is posed in the wordings of training, beside the one in wordings that are held out."""
LONGEST_SEARCH = 64
"""Draws for another wording before there is taken to be none."""
MAX_INSTRUCTION_NEGATIVES = 4
"""The partner and up to three more documents of the other side."""

_VERSION = 3
"""Raised whenever the same folder and rules would give other rows or labels."""


@dataclass(frozen=True, slots=True)
class Case:
    """One query under one rule, with the bound that was chosen for it."""

    query: Query
    rule: Rule
    constraint: Constraint
    """With every bound filled in."""
    satisfying: tuple[str, ...]
    violating: tuple[str, ...]

    @property
    def base_id(self) -> str:
        """The unit of evaluation: a query under a rule has exactly one pair of opposite instructions."""
        return f"{self.query.query_id}:{self.rule.name}"

    def word(self, wording: Wording, satisfying: bool, pick: Pick) -> str:
        """Return the instruction of one side in a wording, with a choice from its brackets."""
        return worded(wording.satisfying if satisfying else wording.violating, self.constraint, pick)


class RuleSource:
    """Rows and evaluation sets that rules make from a BEIR folder; reads and checks everything at once.

    Raises UserError for whatever is missing or broken in the folder, for rules that contradict themselves, for fields
    that a rule cannot take, and where no query of a named split can be used.
    """

    def __init__(
        self,
        *,
        path: str,
        rules: Sequence[Rule],
        train_split: str,
        evaluation_splits: tuple[str, ...],
        skew: float,
        seed: int,
        minimum: int,
        own_document: OwnDocument | None = None,
        queries: WrittenQueries | None = None,
        minimum_share: float = 0.0,
        margin: float = 0.0,
        num_wordings: int | None = None,
    ) -> None:
        """Read the folder; `minimum` documents on each side, and that share of them, make a query usable under a rule.

        `queries`: how plain queries are written, None for those of the folder. `margin`: the share of each side nearest
        to a numeric bound that training pairs leave out. `num_wordings`: as many wordings of a rule as training rows
        have at most, drawn from all that its brackets stand for; None for all.
        """
        self._rules = tuple(rules)
        check_rules(self._rules)
        if minimum < 1:
            raise UserError(f"source.minimum={minimum} must be at least 1, so that both sides have a document")
        self._folder = Path(path)
        if not self._folder.is_dir():
            raise UserError(
                f"source.path={path!r} is not a folder; give a folder with corpus.jsonl, queries.jsonl, qrels/"
            )
        if queries is not None and own_document is not None:
            raise UserError(
                f"source.own_document={own_document} is about queries of the folder, and source.queries writes them; "
                f"set one of them to null"
            )
        asked = read_plain(self._folder, own_document) if queries is None else write_plain(self._folder, queries, seed)
        self._asked, self._documents, self._grades, self._own = asked, asked.documents, asked.grades, asked.own
        self._rows_per_query = None if queries is None else queries.rows_per_query
        self._minimum_share, self._margin, self._num_wordings = minimum_share, margin, num_wordings
        self._train_split, self._skew, self._seed, self._minimum = train_split, skew, seed, minimum
        self.revision: str = hashlib.sha256(f"rules {_VERSION}\0{asked.revision}".encode()).hexdigest()
        """SHA-256 over the revision of the folder and the version of this module; rules are in the recipe."""
        has_held_out = any(rule.evaluation_wordings for rule in self._rules)
        self._seen = {f"{split}{SEEN}": split for split in self._grades if has_held_out and split != train_split}
        self._seen = {name: split for name, split in self._seen.items() if name not in self._grades}
        self.evaluation_names: tuple[str, ...] = (*self._grades, *self._seen)
        named = [("train_split", train_split), *(("evaluation_splits", split) for split in evaluation_splits)]
        for name, split in named:
            self._check_split(self._seen.get(split, split), f"source.{name}")
        wanted = {
            doc_id
            for split in self._grades
            for query in asked.queries[split]
            for doc_id in self._relevant(query, split)
        }
        self._values: list[dict[str, Value]] = read_values(
            self._folder / "corpus.jsonl", self._documents, self._rules, wanted
        )
        self.left_out: dict[str, dict[str, int]] = {}
        """split -> rule -> how many queries have fewer than `minimum` documents on one side."""
        self._cases: dict[str, tuple[Case, ...]] = {split: tuple(self._find_cases(split)) for split in self._grades}
        for _, split in named:
            self._check_usable(self._seen.get(split, split))

    # --- passages -----------------------------------------------------------------------------------------------------

    def generated(self, doc_id: str) -> bool | None:
        """Return False: documents of a folder are taken for real."""
        return False

    def style_of(self, doc_id: str) -> str | None:
        """Return None: a folder does not say."""
        return None

    def documents(self) -> Iterator[Passage]:
        """Yield the corpus in the order of its file: all of it, or the train split where splits have their own."""
        yield from self._asked.documents_of(self._train_split)

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the documents of these ids, in the order asked; raises UserError for an unknown id."""
        for doc_id in doc_ids:
            if doc_id not in self._documents:
                raise UserError(f"document {doc_id!r} is not in {self._folder / 'corpus.jsonl'}; give an id that is")
            yield self._documents[doc_id]

    # --- rows ---------------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[SourceRow]:
        """Yield the base rows of the train split, by query in their order and then by rule.

        A query under a rule gives as many rows as the smaller of its two sides, each with its own two documents;
        a written query `rows_per_query` of them at most, one of each of its rules in turn. The original instruction is
        the rule itself with probability `skew`, else its complement.
        """
        for _, cases in itertools.groupby(self._cases[self._train_split], key=lambda case: case.query.query_id):
            if self._rows_per_query is None:
                for case in cases:
                    yield from self._case_rows(case)
            else:
                ranked = sorted(cases, key=lambda case: (key(self._seed, "rules turn", case.base_id), case.base_id))
                in_turn = itertools.zip_longest(*(self._case_rows(case) for case in ranked))
                rows = (row for turn in in_turn for row in turn if row is not None)
                yield from itertools.islice(rows, self._rows_per_query)

    def _case_rows(self, case: Case) -> Iterator[SourceRow]:
        yes, no = (self._shuffled(case, self._apart(case, side)) for side in (case.satisfying, case.violating))
        answers = self._relevant(case.query, self._train_split)
        if case.query.query_id in self._own:
            answers += (self._own[case.query.query_id],)
        for number in range(min(len(yes), len(no))):
            row_id = f"{case.base_id}:{number}"
            usual = uniform(self._seed, "rules skew", row_id) < self._skew
            own, opposite = (yes, no) if usual else (no, yes)
            wording, pick = self._training_wording(case.rule, row_id)
            yield SourceRow(
                row_id=row_id,
                query_id=case.query.query_id,
                query=case.query.text,
                instruction=case.word(wording, usual, pick),
                reversed_instruction=case.word(wording, not usual, pick),
                paraphrase=self._paraphrase(case, row_id, usual),
                positives=(own[number],),
                hard_negatives=(),
                instruction_negatives=tuple((opposite[number:] + opposite[:number])[:MAX_INSTRUCTION_NEGATIVES]),
                answers=answers,
                asks_usual=usual,
                broad=worded(case.rule.broad, case.constraint, self._pick("rules broad", row_id)),
            )

    def _pick(self, *purpose: str | int) -> Pick:
        """Return a choice of options that this purpose alone decides."""
        return lambda place, num: key(self._seed, *purpose, place) % num

    def _training_wording(self, rule: Rule, row_id: str) -> tuple[Wording, Pick]:
        """Return the wording of a row: one of all, or of the few that training has."""
        drawn_by = row_id
        if self._num_wordings is not None:
            drawn_by = f"{rule.name}~{key(self._seed, 'rules few wordings', row_id) % self._num_wordings}"
        return choose(rule.wordings, self._seed, "rules wording", drawn_by), self._pick("rules alternative", drawn_by)

    def _paraphrase(self, case: Case, row_id: str, usual: bool) -> str:
        """Return the instruction of a row in another wording, or in another choice from the same one; or nothing."""
        wording, pick = self._training_wording(case.rule, row_id)
        instruction = case.word(wording, usual, pick)
        if self._num_wordings is not None:
            others = (self._training_wording(case.rule, f"{row_id}~{attempt}") for attempt in range(LONGEST_SEARCH))
            texts = (case.word(other, usual, its_pick) for other, its_pick in others)
            return next((text for text in texts if text != instruction), "")
        different = [other for other in case.rule.wordings if other is not wording]
        if different:
            other = choose(different, self._seed, "rules paraphrase", row_id)
            return case.word(other, usual, self._pick("rules paraphrase", row_id))
        for attempt in range(LONGEST_SEARCH if num_choices(wording.satisfying) > 1 else 0):
            text = case.word(wording, usual, self._pick("rules paraphrase", row_id, attempt))
            if text != instruction:
                return text
        return ""

    def _apart(self, case: Case, doc_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return the documents of one side without those nearest to the bound, and at least one."""
        values = self._values[self._rules.index(case.rule)]
        far = {doc_id: distance(case.constraint, values[doc_id]) for doc_id in doc_ids}
        if not self._margin or None in far.values():
            return doc_ids
        kept = max(1, math.ceil(len(doc_ids) * (1 - self._margin)))
        ranked = sorted(doc_ids, key=lambda doc_id: (-(far[doc_id] or 0.0), doc_id))
        return tuple(ranked[:kept])

    def _shuffled(self, case: Case, doc_ids: tuple[str, ...]) -> list[str]:
        return sorted(doc_ids, key=lambda doc_id: (key(self._seed, "rules pair", case.base_id, doc_id), doc_id))

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return the documents of a split with its queries, plain and under every rule that can be used on them.

        Its dataset is `<folder>-rules/<name>`. Base query: a query under a rule. Direction: `decade` for the rule
        itself (changed), `not-decade` for its complement (reversed). Clusters: `query`, the plain query; `template`,
        the wording; `kind`, the rule. Raises UserError for a split without labels.
        """
        split = self._seen.get(name, name)
        self._check_split(split, "evaluation set")
        queries: list[EvaluationQuery] = []
        qrels: dict[str, dict[str, int]] = {}
        for query in self._asked.queries[split]:
            queries.append(EvaluationQuery(query.query_id, query.query_id, query.text, "", "plain", PLAIN))
            if query.query_id in self._grades[split]:
                qrels[query.query_id] = dict(self._grades[split][query.query_id])
        changed_documents: dict[str, tuple[str, ...]] = {}
        opposites: list[tuple[str, str]] = []
        clusters: dict[str, dict[str, str]] = {kind: {} for kind in ("query", "template", "kind")}
        for case in self._cases[split]:
            rule, base_id = case.rule, case.base_id
            grades = self._grades[split][case.query.query_id]
            wordings = rule.wordings if name in self._seen else rule.evaluation_wordings or rule.wordings
            wording = choose(wordings, self._seed, "rules evaluation wording", base_id)
            pick = self._pick("rules evaluation alternative", base_id)
            clusters["query"][base_id] = case.query.query_id
            clause = clause_taken(wording.satisfying, wording.violating, pick)
            clusters["template"][base_id] = f"{rule.name}: {clause}"
            clusters["kind"][base_id] = rule.name
            broad = worded(rule.broad, case.constraint, self._pick("rules evaluation broad", base_id))
            posed: list[tuple[str, Condition, str, str, dict[str, int]]] = [
                (f"{base_id}:{BROAD}", "original", BROAD, broad, dict(grades))
            ]
            for usual, own, lost in ((True, case.satisfying, case.violating), (False, case.violating, case.satisfying)):
                direction = rule.name if usual else f"not-{rule.name}"
                query_id = f"{base_id}:{'yes' if usual else 'no'}"
                condition: Condition = "changed" if usual else "reversed"
                kept = {doc_id: grades[doc_id] for doc_id in own}
                posed.append((query_id, condition, direction, case.word(wording, usual, pick), kept))
                changed_documents[query_id] = lost
            opposites.append((f"{base_id}:yes", f"{base_id}:no"))
            for query_id, condition, direction, instruction, kept in posed:
                queries.append(EvaluationQuery(query_id, base_id, case.query.text, instruction, condition, direction))
                qrels[query_id] = kept
        asked_by = {case.base_id: case.query.query_id for case in self._cases[split]}
        plain_ids = {query.query_id: asked_by.get(query.base_id, query.query_id) for query in queries}
        return EvaluationSet(
            name=f"{self._folder.resolve().name}-rules/{name}",
            documents=tuple(self._asked.documents_of(split)),
            queries=tuple(queries),
            qrels=qrels,
            changed_documents=changed_documents,
            opposites=tuple(opposites),
            own_documents={posed: self._own[plain] for posed, plain in plain_ids.items() if plain in self._own},
            remarks=self._asked.remarks,
            plain_of=asked_by,
            clusters=clusters,
        )

    # --- labels -------------------------------------------------------------------------------------------------------

    def cases(self, split: str) -> tuple[Case, ...]:
        """Return every query of a split under every rule that can be used on it; raises UserError for another split."""
        self._check_split(split, "split")
        return self._cases[split]

    @property
    def train_cases(self) -> tuple[Case, ...]:
        """Every query of the train split under every rule that can be used on it."""
        return self._cases[self._train_split]

    def value_of(self, rule: Rule, doc_id: str) -> Value | None:
        """Return what a rule measures of a document that is relevant somewhere; None where the field is missing."""
        return self._values[self._rules.index(rule)].get(doc_id)

    def _find_cases(self, split: str) -> Iterator[Case]:
        left_out = self.left_out.setdefault(split, {rule.name: 0 for rule in self._rules})
        for query in self._asked.queries[split]:
            relevant = self._relevant(query, split)
            for rule, values in zip(self._rules, self._values, strict=True):
                known = [doc_id for doc_id in relevant if doc_id in values]
                minimum = max(self._minimum, math.ceil(self._minimum_share * len(known)))
                constraint = settle(rule.constraint, [values[doc_id] for doc_id in known], minimum)
                if constraint is not None:
                    yes = tuple(doc_id for doc_id in known if satisfied(constraint, values[doc_id]))
                    no = tuple(doc_id for doc_id in known if not satisfied(constraint, values[doc_id]))
                    if min(len(yes), len(no)) >= minimum:
                        yield Case(query, rule, constraint, yes, no)
                        continue
                left_out[rule.name] += 1

    def _relevant(self, query: Query, split: str) -> tuple[str, ...]:
        grades = self._grades[split].get(query.query_id, {})
        return tuple(doc_id for doc_id, grade in grades.items() if grade > 0)

    def _check_usable(self, split: str) -> None:
        if not self._cases[split]:
            num_queries = len(self._asked.queries[split])
            tried = ", ".join(self.left_out[split])
            raise UserError(
                f"{self._folder}: none of the {num_queries} plain queries of split {split!r} has {self._minimum} "
                f"relevant documents on each side of a rule (tried: {tried}); lower source.minimum or change "
                "source.rules"
            )

    def _check_split(self, split: str, what: str) -> None:
        if split not in self._grades:
            known = ", ".join(self.evaluation_names) or "none"
            place = "source.queries" if self._asked.split_of is not None else str(self._folder / "qrels")
            raise UserError(f"{what}={split!r} has no labels in {place}; splits with labels: {known}")

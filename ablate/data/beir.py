"""A folder in BEIR's layout (https://github.com/beir-cellar/beir), with instructions as variants of its queries.

    corpus.jsonl                        {"_id", "title"?, "text"}
    queries.jsonl                       {"_id", "text", "instruction"?, "metadata"?: {"base", "variant", "split", …}}
    qrels/<split>.tsv                   query-id, corpus-id, score: labels of the plain queries
    qrels/<variant>[_<split>].tsv       labels of the instructed queries
    qrels/diff_<variant>[_<split>].tsv  documents relevant under the broad instruction and not under the variant
    qrels/pairs[_<split>].tsv           first query, second query, document right for the first, for the second

A plain query `q` has no instruction; `q-<variant>` is the same text with one. Variant `og` is the broad instruction.
Two variants are each other's complement when, for every base query that has both, their relevant documents are
disjoint and together make up those of `og` (of the plain query where there is no `og`).

Any other key of the metadata with a text names a cluster of its base query, `"constraint": "size.weight"`: claims may
be over new clusters of that kind. Variants that disagree put their base query into none; `form` is a fixed stratum.

These folders hold no hard negatives, so rows leave `hard_negatives` empty; whoever needs some must mine them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from ablate.data.beir_files import BROAD, PLAIN, OwnDocument, Query, bases_of, check_measurable, read_folder
from ablate.randomness import key, uniform
from ablate.records import Condition, EvaluationQuery, EvaluationSet, Passage, SourceRow, UserError

MAX_INSTRUCTION_NEGATIVES = 4
"""The partner and up to three more documents of the other side."""


class BeirFolder:
    """Rows and evaluation sets of a BEIR folder, with or without instructions; reads and checks everything at once.

    Raises UserError, with file and line, for whatever is missing or broken in the folder.
    """

    def __init__(
        self,
        *,
        path: str,
        train_split: str,
        evaluation_splits: tuple[str, ...],
        skew: float,
        seed: int,
        reversals: tuple[tuple[str, str], ...] | None,
        own_document: OwnDocument | None = None,
    ) -> None:
        self._folder = Path(path)
        self._train_split, self._skew, self._seed = train_split, skew, seed
        if not self._folder.is_dir():
            raise UserError(
                f"source.path={path!r} is not a folder; give a folder with corpus.jsonl, queries.jsonl, qrels/"
            )
        files = read_folder(self._folder, own_document)
        self._documents, self._by_base, self._variants = files.documents, files.by_base, files.variants
        self._labels, self._own, self._remarks = files.labels, files.own, files.remarks
        self.revision: str = files.revision
        """SHA-256 over names and bytes of corpus.jsonl, queries.jsonl and qrels/*.tsv."""
        self.evaluation_names: tuple[str, ...] = tuple(self._labels.grades)
        for name, split in (("source.train_split", train_split), *(("evaluation.sets", s) for s in evaluation_splits)):
            self._check_split(split, name)
        for split in evaluation_splits:
            check_measurable(self._labels, split, self._folder)
        self.complements: tuple[tuple[str, str], ...] = (
            self._find_complements() if reversals is None else self._check_reversals(reversals)
        )
        """Pairs of variants that are each other's complement: (changed, reversed)."""
        if reversals is None:
            self._remarks = (*self._remarks, *self._almost_complements())

    # --- passages -----------------------------------------------------------------------------------------------------

    def generated(self, doc_id: str) -> bool | None:
        """Return False: documents of a folder are taken for real."""
        return False

    def style_of(self, doc_id: str) -> str | None:
        """Return None: a folder does not say."""
        return None

    def documents(self) -> Iterator[Passage]:
        """Yield the whole corpus, in the order of its file."""
        yield from self._documents.values()

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the documents of these ids, in the order asked; raises UserError for an unknown id."""
        for doc_id in doc_ids:
            if doc_id not in self._documents:
                raise UserError(f"document {doc_id!r} is not in {self._folder / 'corpus.jsonl'}; give an id that is")
            yield self._documents[doc_id]

    # --- rows ---------------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[SourceRow]:
        """Yield the base rows of the train split, in the order of queries.jsonl.

        A complementary pair of variants gives as many rows as the smaller of its two sets of documents, each with its
        own two documents; the original instruction is that of the first variant with probability `skew`. If one set is
        empty, each document of the other gives a row without instruction negatives. A variant without complement gives
        one row with all its positives, and so does a base query without any instruction.
        """
        paired = {variant for pair in self.complements for variant in pair}
        for base_id in self._bases(self._train_split):
            variants = self._by_base[base_id]
            answers = self._answers(base_id)
            has_rows = False
            for first, second in self.complements:
                if first in variants and second in variants:
                    has_rows = True
                    yield from self._pair_rows(base_id, variants[first], variants[second], answers)
            for variant, query in variants.items():
                single = variant not in paired or not self._has_complement(base_id, variant)
                if query.instruction and variant != BROAD and single:
                    has_rows = True
                    yield from self._single_row(query, answers)
            if not has_rows:
                yield from self._single_row(variants.get(BROAD) or variants[PLAIN], answers)

    def _pair_rows(self, base_id: str, first: Query, second: Query, answers: tuple[str, ...]) -> Iterator[SourceRow]:
        relevant = {query.variant: self._relevant(query.query_id) for query in (first, second)}
        sides = {
            query.variant: sorted(
                (doc_id for doc_id in relevant[query.variant] if doc_id not in relevant[other.variant]),
                key=lambda doc_id: (key(self._seed, "beir pair", base_id, first.variant, doc_id), doc_id),
            )
            for query, other in ((first, second), (second, first))
        }
        ones, others = sides[first.variant], sides[second.variant]
        broad = self._by_base[base_id].get(BROAD)
        takes_both = broad is not None and {*ones, *others} <= set(self._relevant(broad.query_id))
        num_rows = min(len(ones), len(others)) or max(len(ones), len(others))
        for number in range(num_rows):
            row_id = f"{base_id}:{first.variant}:{number}"
            own, other = first, second
            if not ones or (others and uniform(self._seed, "beir skew", row_id) >= self._skew):
                own, other = second, first
            opposite = sides[other.variant]
            yield SourceRow(
                row_id=row_id,
                query_id=base_id,
                query=own.text,
                instruction=own.instruction,
                reversed_instruction=other.instruction,
                paraphrase="",
                positives=(sides[own.variant][number],),
                hard_negatives=(),
                instruction_negatives=tuple((opposite[number:] + opposite[:number])[:MAX_INSTRUCTION_NEGATIVES]),
                answers=answers,
                asks_usual=own is first,
                broad=broad.instruction if broad is not None and takes_both else "",
            )

    def _single_row(self, query: Query, answers: tuple[str, ...]) -> Iterator[SourceRow]:
        positives = self._relevant(query.query_id)
        if not positives:
            return
        broken = self._changed(query, self._train_split) if query.instruction else ()
        yield SourceRow(
            row_id=f"{query.base_id}:{query.variant}:0",
            query_id=query.base_id,
            query=query.text,
            instruction=query.instruction,
            reversed_instruction="",
            paraphrase="",
            positives=positives,
            hard_negatives=(),
            instruction_negatives=tuple(doc_id for doc_id in broken if doc_id not in positives),
            answers=answers,
        )

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return the whole corpus with the queries of a split, plain and under every instruction.

        Its dataset is `<folder>/<split>`; a query's direction is its variant. Queries without labels stay in it as
        unjudged ones. Raises UserError for a split without labels.
        """
        self._check_split(name, "evaluation set")
        second_of = dict(self.complements)
        reversed_variants = set(second_of.values())
        queries: list[EvaluationQuery] = []
        qrels: dict[str, dict[str, int]] = {}
        changed_documents: dict[str, tuple[str, ...]] = {}
        opposites: list[tuple[str, str]] = []
        for base_id in self._bases(name):
            variants = self._by_base[base_id]
            for variant, query in variants.items():
                condition: Condition = "reversed" if variant in reversed_variants else "changed"
                condition = {PLAIN: "plain", BROAD: "original"}.get(variant, condition)  # type: ignore[assignment]
                queries.append(
                    EvaluationQuery(query.query_id, base_id, query.text, query.instruction, condition, variant)
                )
                if query.query_id in self._labels.grades[name]:
                    qrels[query.query_id] = dict(self._labels.grades[name][query.query_id])
                if condition in ("changed", "reversed") and (lost := self._changed(query, name)):
                    changed_documents[query.query_id] = lost
                if second_of.get(variant) in variants:
                    opposites.append((query.query_id, variants[second_of[variant]].query_id))
        return EvaluationSet(
            name=f"{self._folder.resolve().name}/{name}",
            documents=tuple(self._documents.values()),
            queries=tuple(queries),
            qrels=qrels,
            changed_documents=changed_documents,
            opposites=tuple(opposites),
            pairs=self._pairs(name, opposites),
            own_documents={
                posed.query_id: self._own[posed.query_id] for posed in queries if posed.query_id in self._own
            },
            remarks=self._remarks,
            clusters=self._clusters(name),
        )

    def _clusters(self, split: str) -> dict[str, dict[str, str]]:
        """Return kind -> base query -> its cluster, of the base queries of a split whose variants agree on it."""
        clusters: dict[str, dict[str, str]] = {}
        for base_id in self._bases(split):
            named: dict[str, set[str]] = {}
            for query in self._by_base[base_id].values():
                for kind, cluster in query.clusters.items():
                    named.setdefault(kind, set()).add(cluster)
            for kind, known in named.items():
                if len(known) == 1:
                    clusters.setdefault(kind, {})[base_id] = next(iter(known))
        return clusters

    def _pairs(
        self, split: str, opposites: list[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[tuple[str, str], ...]] | None:
        if split not in self._labels.pairs or not self.complements:
            return None
        pairs: dict[tuple[str, str], list[tuple[str, str]]] = {opposite: [] for opposite in opposites}
        for first, second, first_doc, second_doc in self._labels.pairs[split]:
            if (first, second) in pairs:
                pairs[first, second].append((first_doc, second_doc))
            elif (second, first) in pairs:
                pairs[second, first].append((second_doc, first_doc))
            else:
                raise UserError(
                    f"{self._folder / 'qrels'}: pairs of split {split!r} name {first!r} and {second!r}, which are not "
                    "complements of each other; name their variants in source.reversals"
                )
        return {opposite: tuple(documents) for opposite, documents in pairs.items() if documents}

    # --- labels -------------------------------------------------------------------------------------------------------

    def _bases(self, split: str) -> Iterator[str]:
        return bases_of(self._by_base, split, self._labels.grades)

    def _relevant(self, query_id: str, split: str | None = None) -> tuple[str, ...]:
        """Return the relevant documents of a query in the train split, or in `split`, in the order of the file."""
        grades = self._labels.grades[split or self._train_split].get(query_id, {})
        return tuple(doc_id for doc_id, grade in grades.items() if grade > 0)

    def _answers(self, base_id: str) -> tuple[str, ...]:
        """Return what no other row's passage may be for this query: what is relevant under any of its instructions."""
        queries = self._by_base[base_id].values()
        answers = dict.fromkeys(doc_id for query in queries for doc_id in self._relevant(query.query_id))
        return tuple(answers | {self._own[query.query_id]: None for query in queries if query.query_id in self._own})

    def _broad(self, base_id: str, split: str) -> tuple[str, ...]:
        """Return what is relevant before an instruction narrows it: under `og`, or without one for the plain query."""
        variants = self._by_base[base_id]
        query = variants.get(BROAD) or variants.get(PLAIN)
        return self._relevant(query.query_id, split) if query else ()

    def _changed(self, query: Query, split: str) -> tuple[str, ...]:
        """Return the documents that are relevant under the broad instruction and not under this one."""
        listed = self._labels.changed.get(split, {})
        if query.query_id in listed:
            return tuple(listed[query.query_id])
        if query.variant == BROAD:
            plain = self._by_base[query.base_id].get(PLAIN)
            broad = self._relevant(plain.query_id, split) if plain else ()
        else:
            broad = self._broad(query.base_id, split)
        kept = set(self._relevant(query.query_id, split))
        return tuple(doc_id for doc_id in broad if doc_id not in kept)

    def _has_complement(self, base_id: str, variant: str) -> bool:
        return any(
            variant in pair and all(name in self._by_base[base_id] for name in pair) for pair in self.complements
        )

    def _find_complements(self) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        names = [variant for variant in self._variants if variant != BROAD]
        for first, second in itertools.combinations(names, 2):
            if not any(name in pair for pair in pairs for name in (first, second)):
                if self._are_complements(first, second):
                    pairs.append((first, second))
        return tuple(pairs)

    def _almost_complements(self) -> Iterator[str]:
        """Yield what to say of two variants that are complements for most queries and not for all."""
        paired = {name for pair in self.complements for name in pair}
        names = [variant for variant in self._variants if variant != BROAD and variant not in paired]
        for first, second in itertools.combinations(names, 2):
            whole, broken = 0, list[str]()
            for split, base_id in ((name, base_id) for name in self._labels.grades for base_id in self._bases(name)):
                variants = self._by_base[base_id]
                if first not in variants or second not in variants:
                    continue
                broad = set(self._broad(base_id, split))
                ones = set(self._relevant(variants[first].query_id, split))
                others = set(self._relevant(variants[second].query_id, split))
                if wrong := sorted((ones & others) | (broad ^ (ones | others))):
                    broken.append(f"{base_id} with {wrong[0]} in {split}")
                    if len(broken) > max(2, whole):
                        break
                whole += bool(ones and others and not wrong)
            if broken and whole > len(broken):
                yield (
                    f"{first!r} and {second!r} are complements for {whole:,} queries and not for {len(broken):,} "
                    f"(first: {broken[0]}, which is relevant under both, or under neither, or only there), so they are "
                    f"not taken for complements; mend the labels, or say source.reversals=[[{first},{second}]]"
                )

    def _are_complements(self, first: str, second: str) -> bool:
        seen: set[str] = set()
        for split in self._labels.grades:
            for base_id in self._bases(split):
                variants = self._by_base[base_id]
                if first not in variants or second not in variants:
                    continue
                whole = set(self._broad(base_id, split))
                ones = set(self._relevant(variants[first].query_id, split))
                others = set(self._relevant(variants[second].query_id, split))
                if not whole and not ones and not others:
                    continue  # nothing is known about it
                if ones & others or ones | others != whole:
                    return False
                seen |= {name for name, side in ((first, ones), (second, others)) if side}
        return seen == {first, second}

    def _check_reversals(self, reversals: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        known = [variant for variant in self._variants if variant != BROAD]
        names = [name for pair in reversals for name in pair]
        for name in names:
            if name not in known:
                raise UserError(
                    f"source.reversals names variant {name!r}, which {self._folder / 'queries.jsonl'} does not have; "
                    f"known: {', '.join(known) or 'none, no query has an instruction'}"
                )
            if names.count(name) > 1:
                raise UserError(f"source.reversals names variant {name!r} twice; a variant has one complement")
        return tuple((first, second) for first, second in reversals)

    def _check_split(self, split: str, what: str) -> None:
        if split not in self._labels.grades:
            known = ", ".join(self._labels.grades) or "none"
            raise UserError(f"{what}={split!r} has no labels in {self._folder / 'qrels'}; splits with labels: {known}")

"""What is wrong with data or a study, said in seconds and before any training.

    python -m ablate.check DIR                                       a BEIR folder
    python -m ablate.check source=beir source.path=DIR               the words of ablate.run
    python -m ablate.check +sweeps=dual_view                         a study: its claims, and the data of its arms

Exit code 0: nothing, or warnings only; 1: a finding that makes results wrong (FAILED); 2: a mistake in the command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ablate.cli.command import command, finish
from ablate.cli.explain import check_command_line, in_words
from ablate.cli.overrides import quoted
from ablate.compose import cell_of, load, strict, study_of, take_apart
from ablate.data import checking
from ablate.data.audited import read_audit
from ablate.data.checking import Finding
from ablate.data.mix import fields_required, order_of
from ablate.data.sources import RowSource, check_names, open_sets, open_source
from ablate.evaluation.measures import revisions_of, with_measures
from ablate.evaluation.summary import QUERY_MEASURES
from ablate.recipe.identity import Identity, Revisions, identify
from ablate.recipe.schema import ModelConfig, Recipe, RunConfig
from ablate.recipe.values import plain
from ablate.records import EvaluationSet, Passage, SourceRow, UserError
from ablate.store.results import ResultStore
from ablate.study import planning
from ablate.tables import Column, Table, to_text

MOST_TOKENISED = 2000
"""Queries, and passages, whose lengths are measured."""


MOST_SHOWN = 320
"""Characters of a text that are shown."""


@dataclass
class Report:
    """What a check found, in the order of what is printed."""

    findings: list[Finding] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    sample: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether results on this data would be wrong."""
        return any(finding.level == "FAILED" for finding in self.findings)

    def text(self) -> str:
        """Return findings first, then counts, then rows to read."""
        lines = [
            f"{finding.level}: {finding.text}" for finding in sorted(self.findings, key=lambda finding: finding.level)
        ]
        lines = [*(lines or ["nothing is wrong that a program can see"]), "", *self.counts]
        if self.sets:
            lines += ["", _aligned(self.sets)]
        for row in self.sample:
            lines += ["", f"row {row['row_id']}"]
            for name, value in row.items():
                if name != "row_id":
                    cut = textwrap.shorten(str(value), MOST_SHOWN, placeholder=" …")
                    lines.append(
                        textwrap.fill(f"{name:<22}{cut}", 110, initial_indent="  ", subsequent_indent=" " * 24)
                    )
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return everything as JSON."""
        findings = [finding._asdict() for finding in self.findings]
        return json.dumps({**dataclasses.asdict(self), "findings": findings}, indent=1, ensure_ascii=False)


def _aligned(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows of one kind as aligned text under their names: texts to the left, numbers to the right."""
    names = list(rows[0])
    columns = tuple(Column(name, "r" if isinstance(rows[0][name], int) else "l") for name in names)
    lines = [
        tuple(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names) for row in rows
    ]
    return to_text(Table("", columns, tuple(lines)))


def check_data(config: RunConfig, sets: Sequence[str] | None, num_sampled: int) -> tuple[Report, list[EvaluationSet]]:
    """Return what is wrong with the rows and the evaluation sets of a run (`sets`: None for all that there are).

    Raises UserError for a source that cannot be read at all.
    """
    recipe, report = config.recipe, Report()
    elsewhere, caches = recipe.evaluation.source, ResultStore(config.runtime.results).cache
    source = open_source(recipe.source, ())
    beds = source if elsewhere is None else open_sets(elsewhere, recipe.evaluation.sets, caches)
    train = getattr(recipe.source, "train_split", None)
    names = [name for name in beds.evaluation_names if name != train] if sets is None else list(sets)
    check_names(beds, names)
    rows = checking.read_rows(checking.iterate(source.rows(), "rows"), num_sampled)
    report.findings += rows.findings
    _count_rows(report, recipe, source, rows)
    revisions_of(recipe.evaluation.measures, QUERY_MEASURES)  # refuses what is none
    read = [with_measures(beds.evaluation_set(name), recipe.evaluation.measures) for name in names]
    shared = _shared_passages(source, rows, read)
    report.findings += [Finding("warning", remark) for remark in dict.fromkeys(r for bed in read for r in bed.remarks)]
    texts = _texts(source, rows.first)
    report.findings += checking.equal_passages(rows.first, texts)
    trained = {texts[doc_id] for row in rows.first for doc_id in row.positives}
    for bed in read:
        report.findings += [*checking.overlap(rows.positives, shared, bed), *checking.contradictions(bed)]
        report.findings += checking.unmeasured(bed)
        report.findings += checking.equal_documents(bed)
        report.findings += checking.shared_documents(trained, bed)
        report.sets += checking.counts_of(bed)
    report.counts += _lengths(recipe.model, rows.first, source, read)
    report.sample = [_shown(row, source) for row in rows.sample]
    return report, read


def _count_rows(report: Report, recipe: Recipe, source: RowSource, rows: checking.Rows) -> None:
    """Add the counts of rows and fields, and what the budget makes of them."""
    remedies = {} if recipe.miner is None else {"hard_negatives": f" (mined later, miner.kind={recipe.miner.kind})"}
    report.counts.append(
        f"rows: {rows.num_rows:,} of {len(rows.query_ids):,} queries ({rows.unique_queries:,} different texts); "
        f"{checking.lacking_words(rows.lacking, remedies) or 'every field is filled'}"
    )
    order = order_of(source, recipe, 0, read_audit(recipe.audit))
    limit = "no limit" if recipe.budget.limit is None else f"{recipe.budget.limit:,} {recipe.budget.unit}"
    taken = len({checking.normal(row.query) for row in order.rows})
    report.counts.append(
        f"budget: {limit}; eligible with source.rows={recipe.source.rows}"
        f"{f' and audit.take={recipe.audit.take}{order.audit_words()}' if order.audit else ''}: "
        f"{order.num_eligible:,} rows; the budget "
        f"takes at most {len(order.rows):,} of them, of {taken:,} unique queries"
    )
    if not order.num_eligible and order.audit:
        words = f"training: audit.take={recipe.audit.take} takes no row{order.audit_words()}: the mix would be empty"
        report.findings.append(Finding("FAILED", words))
    elif not order.num_eligible:
        why = checking.lacking_words(order.lacking) or "there is no row"
        words = f"training: no row has all of {', '.join(fields_required(recipe))} ({why}): the mix would be empty"
        remedy = "; source.rows=all takes rows that lack some" if order.num_rows else ""
        report.findings.append(Finding("FAILED", words + remedy))
    report.findings += checking.few_queries(taken, len(order.rows))
    ignored = checking.ignored_files(recipe.source.kind, getattr(recipe.source, "path", None))
    if ignored:
        more = f" and {len(ignored) - 8:,} more" if len(ignored) > 8 else ""
        report.counts.append(f"files that are not read: {', '.join(ignored[:8])}{more}")


def _shared_passages(source: RowSource, rows: checking.Rows, sets: Iterable[EvaluationSet]) -> dict[str, Passage]:
    """Return the positives of training queries that a set has too; all others are not needed."""
    asked = {checking.normal(query.query) for bed in sets for query in bed.queries}
    shared = sorted(asked & rows.positives.keys())
    wanted = dict.fromkeys(doc_id for query in shared for doc_id in sorted(rows.positives[query]))
    return {passage.doc_id: passage for passage in source.passages(wanted)} if wanted else {}


def _texts(source: RowSource, rows: Sequence[SourceRow]) -> dict[str, str]:
    """Return the normal form of every passage of these rows by its id."""
    fields = ((*row.positives, *row.hard_negatives, *row.instruction_negatives) for row in rows)
    wanted = dict.fromkeys(doc_id for doc_ids in fields for doc_id in doc_ids)
    return {passage.doc_id: checking.body(passage) for passage in source.passages(wanted)} if wanted else {}


def _lengths(
    model: ModelConfig, rows: Sequence[SourceRow], source: RowSource, sets: Sequence[EvaluationSet]
) -> list[str]:
    """Return how many queries and passages are cut, by the arm's own tokenizer and template, of a bounded number."""
    if model.tiny is not None:
        return ["lengths: not measured, model=tiny takes its tokenizer from the mix"]
    from transformers import AutoTokenizer

    from ablate.model.backbone import quiet_transformers, resolve_backbone
    from ablate.model.static import find_table, open_tokenizer
    from ablate.model.text import TextTemplate

    backbone = resolve_backbone(model)
    if model.static is not None:
        template = TextTemplate(model, open_tokenizer(find_table(Path(backbone.place))))
    else:
        with quiet_transformers():
            options = {} if model.hub_revision is None else {"revision": model.hub_revision}
            template = TextTemplate(model, AutoTokenizer.from_pretrained(backbone.place, **options))
    lines = []
    wanted = list(dict.fromkeys(doc_id for row in rows for doc_id in row.positives))[:MOST_TOKENISED]
    places = [("training", [(row.query, row.instruction) for row in rows], list(source.passages(wanted)))]
    places += [(bed.name, [(q.query, q.instruction) for q in bed.queries], _spread(bed.documents)) for bed in sets]
    for name, posed, passages in places:
        queries = _spread(posed)
        cut = template.tokenise_queries(queries).num_truncated, template.tokenise_passages(passages).num_truncated
        lines.append(
            f"lengths, {name}: {cut[0]:,} of {len(queries):,} queries are cut to model.query_length="
            f"{model.query_length}, {cut[1]:,} of {len(passages):,} passages to model.passage_length="
            f"{model.passage_length}"
        )
    return lines


def _spread(items: Sequence[Any]) -> list[Any]:
    """Return at most MOST_TOKENISED items, evenly spread."""
    return list(items[:: max(1, -(-len(items) // MOST_TOKENISED))])


def _shown(row: SourceRow, source: RowSource) -> dict[str, Any]:
    """Return a row with the beginning of its texts, to be read."""

    def texts(doc_ids: Sequence[str]) -> str:
        passages: list[Passage] = list(source.passages(doc_ids[:1]))
        more = f" (and {len(doc_ids) - 1} more)" if len(doc_ids) > 1 else ""
        words = [" ".join(f"{passage.title} {passage.text}".split())[:MOST_SHOWN] for passage in passages]
        return "".join(f"{passage.doc_id}{more}: {text}" for passage, text in zip(passages, words, strict=True))

    values = {name: getattr(row, name) for name in ("row_id", "query", "instruction", "reversed_instruction")}
    lists = {name: texts(getattr(row, name)) for name in ("positives", "hard_negatives", "instruction_negatives")}
    return {name: value or "(none)" for name, value in {**values, **lists}.items()}


def check_study(given: Sequence[planning.Given], values: DictConfig, num_sampled: int) -> Report:
    """Return what is wrong with a study: its claims, its combinations, and the data of its arms, each source once."""
    from analysis.verdict.declarable import check_plan

    name = next(item.values[0] for item in given if item.bare == "sweeps")
    study = study_of(values)
    if study is None:
        raise UserError(f"sweeps/{name}.yaml has no block `study`; ablate.check looks at sources and at studies")
    first = dataclasses.replace(study, seeds=study.seeds[:1])
    points = list(planning.of_study(name, first, given))
    cells = planning.plan(points, _cell, _named)
    sound = [cell for cell in cells if cell.config is not None]
    if not sound:
        raise UserError(f"no run of sweeps/{name}.yaml makes sense: {cells[0].reason}")
    report, all_sets = Report(), list[EvaluationSet]()
    if study.incoherent == "error":
        wrong = [cell for cell in cells if cell.config is None]
        report.findings += [Finding("FAILED", f"{cell.label} makes no sense: {cell.reason}") for cell in wrong]
    seen = set[str]()
    for cell in sound:
        assert cell.config is not None
        recipe = cell.config.recipe
        key = json.dumps(plain([recipe.source, recipe.evaluation.source, recipe.evaluation.sets]), sort_keys=True)
        if key not in seen:
            seen.add(key)
            part, read = check_data(cell.config, recipe.evaluation.sets, num_sampled if len(seen) == 1 else 0)
            report.findings += [finding for finding in part.findings if finding not in report.findings]
            report.counts += [f"{cell.label}: {line}" for line in part.counts]
            report.sets += part.sets if len(seen) == 1 else []
            report.sample += part.sample
            all_sets += read
    rankers = {cell.label: cell.config.recipe.ranker for cell in sound if cell.config is not None}
    store = ResultStore(sound[0].config.runtime.results)  # type: ignore[union-attr]
    planned = dict(zip(points, cells, strict=True))
    declared = planning.declared_cells(planning.of_declaration(name, first, given), planned, _cell, _named)
    notes = check_plan(study, rankers, declared, store.arms("evaluation", sound[0].study), all_sets)
    report.findings += [Finding("warning", note) for note in notes]
    num_runs = len(sound) * len(study.seeds)
    report.counts.insert(0, f"study {name}: {num_runs} runs; claims that can be judged: {len(study.claims)}")
    return report


def _load(overrides: Sequence[str]) -> DictConfig:
    """Return what a command line composes, its form looked at first; raises UserError for what Hydra does not take."""
    check_command_line(overrides)
    return load(overrides)


def _cell(overrides: tuple[str, ...]) -> planning.Composed:
    composed = _load(overrides)
    with in_words(overrides):
        return cell_of(composed)


def _named(config: RunConfig) -> Identity:
    """Return ids that tell recipes apart without opening anything."""
    return identify(config.recipe, config.seed, Revisions(source="", model=""))


def check(words: Sequence[str], num_sampled: int = 3) -> Report:
    """Return what is wrong with what a command line names: a folder, a source or a study."""
    overrides = [word for word in words if "=" in word or word.startswith("~")]
    folders = [word for word in words if word not in overrides]
    every_set = bool(folders) and not any(word.lstrip("+").startswith("evaluation.sets=") for word in overrides)
    if len(folders) > 1:
        raise UserError(f"{folders[1]!r} is a second folder; check one at a time")
    if folders:
        overrides = [*_source_of(folders[0]), *overrides]
    check_command_line(["--multirun", *overrides])  # what it says of a list of values is for runs
    given = take_apart(overrides, lists=False)
    values = _load(overrides)
    if any(item.bare == "sweeps" for item in given):
        return check_study(given, values, num_sampled)
    config = strict(values)
    sets = [*config.recipe.evaluation.sets, *([config.runtime.dev_set] if config.runtime.dev_set else [])]
    return check_data(config, None if every_set else sets, num_sampled)[0]


def _source_of(word: str) -> list[str]:
    """Return the overrides that read a folder; raises UserError for one that is no BEIR folder."""
    folder = Path(word)
    if not folder.is_dir():
        raise UserError(f"{word!r} is neither a folder nor an override; give a folder, or source=beir source.path=DIR")
    if not (folder / "corpus.jsonl").is_file():
        raise UserError(
            f"{word!r} holds no corpus.jsonl, so it is no BEIR folder; for published rows name their format: "
            f"source=promptriever (or tevatron, infir) source.path={word} +evaluation_source=world"
        )
    return ["source=beir", quoted("source.path", str(folder.absolute()))]


def _run(options: argparse.Namespace) -> int:
    if options.rows < 0:
        raise UserError(f"--rows {options.rows} must be 0 or more")
    report = check(options.words, options.rows)
    encoding = sys.stdout.encoding or "ascii"
    text = report.as_json() if options.json else report.text()
    print(text.encode(encoding, "replace").decode(encoding))
    return 1 if report.failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and return the exit code."""
    made = command(
        "ablate.check",
        "Say what is wrong with data or a study before anything is trained. Exit code 0: nothing or warnings; 1: "
        "something that makes results wrong; 2: a mistake in the command.",
        "source=beir source.path=DIR",
    )
    made.add_argument("words", nargs="*", metavar="DIR|KEY=VALUE", help="a folder, or overrides as for ablate.run")
    made.add_argument("--rows", type=int, default=3, help="rows to show, drawn by chance (default: 3)")
    made.add_argument("--json", action="store_true", help="print everything as JSON")
    return finish(_run, made, arguments, intermixed=True)


if __name__ == "__main__":
    sys.exit(main())

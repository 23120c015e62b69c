"""Texts written or judged by a language model: instructions, negatives, complements, paraphrases, judgments.

    python -m ablate.synthesize reverse source=promptriever source.path=DIR --model NAME --out reversed
    python -m ablate.synthesize judge --items reversed/items.jsonl --model NAME --out judged
    python -m ablate.synthesize reverse --replace --engine simulated --model usual --out simulated

Every answer is recorded as it came before it is looked at, and none is paid twice: after a kill, or with a larger
budget, the same command goes on. Exit code 0: all was asked; 1: budget or quota ended it, what there is was written;
2: a mistake.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.cli.command import command, finish, output_file, output_folder, seed, write_text
from ablate.cli.interrupts import told_by_exit_code
from ablate.data.published.synthesized import provenances
from ablate.records import UserError
from ablate.synthesis import judging
from ablate.synthesis.answers import JudgeReply
from ablate.synthesis.asking import Asking, Engine, Settings, Stop, Task
from ablate.synthesis.budget import Prices
from ablate.synthesis.cache import Cache
from ablate.synthesis.items import item_of, read_gold, read_items
from ablate.synthesis.output import (
    ANSWERS,
    CACHE,
    GOLD,
    ITEMS,
    JUDGMENTS,
    ROWS,
    SUMMARY,
    Files,
    Report,
    write_judgments,
    write_rows,
)
from ablate.synthesis.prompts import Prompt, prompt_file, read_prompt
from ablate.synthesis.rows import Rows, works
from ablate.synthesis.steps import STEPS, Work

ENDPOINT = "https://api.openai.com/v1"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "ablate.synthesize",
        "Let a language model write instructions, instruction negatives, complements and paraphrases for rows, or "
        "judge complements. Exit code 0: all was asked; 1: budget or quota ended it; 2: a mistake.",
        "reverse source=promptriever source.path=DIR --model NAME --out reversed",
    )
    made.add_argument("step", choices=[*STEPS, "judge"], help="what is written")
    made.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="the source, as for ablate.run (default: the world)"
    )
    made.add_argument("--mix", metavar="ID", help="take the rows of a finished mix instead")
    made.add_argument("--items", metavar="F", type=Path, help="judge: items of an audit instead of rows")
    made.add_argument("--gold", metavar="F", type=Path, help="judge, simulated: what is true of the items")
    made.add_argument("--share", type=float, default=1.0, help="share of the rows that is taken, drawn (default: 1)")
    made.add_argument("--limit", type=int, metavar="N", help="rows or items that are taken at most")
    made.add_argument("--replace", action="store_true", help="write anew what rows have already")
    made.add_argument("--seed", type=seed, default=0, help="of all draws (default: 0)")
    made.add_argument("--out", type=output_folder, required=True, metavar="DIR", help="folder that is written")
    who = made.add_argument_group("who answers")
    who.add_argument("--engine", choices=["openai", "transformers", "simulated"], default="openai")
    who.add_argument("--model", required=True, help="its name; a folder (transformers); a writer or judge (simulated)")
    who.add_argument("--endpoint", default=ENDPOINT, metavar="URL", help=f"OpenAI-compatible (default: {ENDPOINT})")
    who.add_argument("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with the key")
    who.add_argument("--prompt", metavar="F", type=Path, help="prompt (default: conf/synthesis/STEP.yaml)")
    who.add_argument(
        "--format",
        choices=["schema", "object", "words"],
        default="schema",
        help="how JSON is asked for: by schema, as any object, by the prompt alone; it is always validated",
    )
    who.add_argument("--rates", metavar="F", type=Path, help="simulated: (default: conf/synthesis/simulated.yaml)")
    who.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="transformers (default: auto)")
    how = made.add_argument_group("how it is asked")
    how.add_argument("--concurrency", type=int, default=8, help="requests at once (default: 8)")
    how.add_argument("--per-minute", type=float, metavar="N", help="requests in a minute at most")
    how.add_argument("--timeout", type=float, default=120.0, metavar="S", help="of one request (default: 120)")
    how.add_argument("--tries", type=int, default=6, help="requests until a failing one is given up (default: 6)")
    how.add_argument("--asks", type=int, default=2, help="answers until one is well-formed (default: 2)")
    how.add_argument("--patience", type=float, default=600.0, metavar="S", help="longest wait asked for (default: 600)")
    how.add_argument("--cache", type=output_file, metavar="F", help="file of all answers (default: in --results)")
    how.add_argument("--results", default="results", help="folder of results (default: results)")
    cost = made.add_argument_group("what it may cost, over all commands with this step, model and prompt")
    cost.add_argument("--price-in", type=float, metavar="X", help="money for a million tokens of requests")
    cost.add_argument("--price-out", type=float, metavar="X", help="money for a million tokens of answers")
    cost.add_argument("--max-cost", type=float, metavar="X", help="never more than this, the worst case reserved")
    cost.add_argument("--max-tokens", type=int, metavar="N", help="never more tokens than this")
    return made


def _check(options: argparse.Namespace) -> None:
    """Raise UserError for options that are out of range, or do not go together."""
    for name, least in (("limit", 1), ("concurrency", 1), ("tries", 1), ("asks", 1), ("max_tokens", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value} must be {least} or more")
    for name in ("per_minute", "timeout", "patience", "price_in", "price_out", "max_cost", "share"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and (value > 0 or (value == 0 and "price" in name))):
            raise UserError(f"--{name.replace('_', '-')} {value:g} must be a finite number above 0")
    if options.share > 1:
        raise UserError(f"--share {options.share:g} must not exceed 1")
    if options.max_cost is not None and (options.price_in is None or options.price_out is None):
        raise UserError("--max-cost needs --price-in and --price-out: without prices no cost is known")
    is_judge = options.step == "judge"
    if (options.items or options.gold) and not is_judge:
        raise UserError(f"--items and --gold are for judge; {options.step} takes rows")
    if options.gold is not None and options.engine != "simulated":
        raise UserError("--gold is what a simulated judge is told; no other engine may see it")
    if is_judge and options.engine == "simulated" and options.gold is None:
        raise UserError("judge --engine simulated needs --gold, such as the gold.jsonl of a simulated reverse")
    if options.engine == "simulated" and is_judge and options.items is None:
        raise UserError("judge --engine simulated needs --items, those that --gold is about")
    if sum(map(bool, (options.mix, options.items, options.words))) > 1:
        raise UserError("give one of: a source (KEY=VALUE), --mix, --items")
    if is_judge and options.replace:
        raise UserError("--replace is for steps that write; judge only reads")


def _engine(options: argparse.Namespace) -> Engine:
    if options.engine == "openai":
        from ablate.synthesis.endpoint import Endpoint

        return Endpoint(
            options.model,
            address=options.endpoint,
            key_name=options.key_env,
            timeout_s=options.timeout,
            form=options.format,
        )
    if options.engine == "transformers":
        from ablate.synthesis.local import LocalModel

        return LocalModel(options.model, device=options.device)
    from ablate.synthesis.simulated import Judge, Writer, read_character

    kind = "judges" if options.step == "judge" else "writers"
    character = read_character(options.rates or prompt_file("simulated"), kind, options.model)
    return Judge(character) if options.step == "judge" else Writer(character)


def _source(options: argparse.Namespace) -> tuple[Rows, str | None]:
    """Return the rows, and the place of those that say themselves where their texts are from."""
    if options.mix is not None:
        from ablate.data.mix import read_mix
        from ablate.store.results import ResultStore
        from ablate.synthesis.rows import MixRows

        store = ResultStore(options.results)
        manifest = store.resolve("mix", options.mix)
        mix = read_mix(store.whole(manifest), manifest.counts)
        return MixRows(mix.groups, mix.passages), None
    from ablate.compose import load, strict
    from ablate.data.sources import open_source
    from ablate.recipe.schema import PublishedSource

    source = strict(load([*options.words, "evaluation.sets=[none]"])).recipe.source
    opened = open_source(source, ())
    says = isinstance(source, PublishedSource) and source.format == "synthesized"
    return opened, source.path if says and isinstance(source, PublishedSource) else None


def _works(options: argparse.Namespace) -> Callable[[], Iterator[tuple[Work, Mapping[str, Any]]]]:
    """Return what makes a pass over the rows that are taken, each with where its texts are from."""
    source, path = _source(options)

    def taken() -> Iterator[tuple[Work, Mapping[str, Any]]]:
        said = iter(()) if path is None else provenances(path)
        for work in works(source, share=options.share, limit=options.limit, seed=options.seed):
            yield work, {} if path is None else next(by for row_id, by in said if row_id == work.row.row_id)

    return taken


def _asking(options: argparse.Namespace, cache: Cache, engine: Engine, prompt: Prompt) -> Asking:
    step = STEPS.get(options.step)
    return Asking(
        engine,
        cache,
        prompt,
        step.schema if step is not None else JudgeReply,
        step.is_none if step is not None else judging.is_none,
        step=options.step,
        settings=Settings(options.concurrency, options.tries, options.asks, options.patience),
        prices=Prices(options.price_in, options.price_out),
        most_tokens=options.max_tokens,
        most_cost=options.max_cost,
        per_minute=options.per_minute,
    )


def _run(options: argparse.Namespace) -> int:
    _check(options)
    step = STEPS.get(options.step)
    prompt = read_prompt(options.prompt or prompt_file(options.step), step.needed if step is not None else ())
    prepare = _judging if step is None else _writing
    tasks, write, names = prepare(options, prompt)
    engine = _engine(options)
    schema = step.schema if step is not None else JudgeReply
    total = 0
    for task in tasks():  # whatever is wrong with rows, prompt or engine is told before anything is paid
        engine.body(prompt.messages(task.variables), schema, prompt, task)
        total += 1
    path = options.cache
    if path is None:
        from ablate.store.results import ResultStore

        path = ResultStore(options.results).cache / CACHE
    cache = Cache(path, is_paid=options.engine == "openai")
    try:
        asking = _asking(options, cache, engine, prompt)
        stop = _ask(asking, tasks(), total)
        if stop is not None and stop.kind == "signal":
            print(f"{stop.reason}; the same command goes on from where it stopped", file=sys.stderr)
            return 128 + stop.number
        if stop is not None and stop.kind == "server":
            raise UserError(f"{stop.reason}; what was answered is kept in {path}")
        report = Report()
        with Files(options.out, names) as files:
            write(files, report, asking)
        summary = report.summary(asking, options.step, stop, cache)
    finally:
        cache.close()
    write_text(options.out / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    print(_in_words(summary))
    return 0 if stop is None else 1


def _ask(asking: Asking, tasks: Iterator[Task], total: int) -> Stop | None:
    from tqdm import tqdm

    with tqdm(total=total, desc="asked", unit=" tasks", delay=2, leave=False, disable=None, file=sys.stderr) as bar:
        return asking.ask_all(tasks, lambda: bar.update() and None)


Prepared = tuple[Callable[[], Iterator[Task]], Callable[[Files, Report, Asking], None], tuple[str, ...]]
"""A pass over the tasks; what writes the files of the step; their names."""


def _writing(options: argparse.Namespace, prompt: Prompt) -> Prepared:
    step, taken = STEPS[options.step], _works(options)

    def with_tasks() -> Iterator[tuple[Work, str, Task | None, Mapping[str, Any]]]:
        for work, said in taken():
            lacking = step.lacking(work.row, options.replace)
            yield work, lacking, None if lacking else step.task(work, prompt, options.seed), said

    def tasks() -> Iterator[Task]:
        return (task for _, _, task, _ in with_tasks() if task is not None)

    more: tuple[str, ...] = (ITEMS,) if step.name == "reverse" else ()
    more += (GOLD,) if more and options.engine == "simulated" else ()
    return (
        tasks,
        lambda files, report, asking: write_rows(files, report, asking, step, with_tasks()),
        (ROWS, *more, ANSWERS),
    )


def _judging(options: argparse.Namespace, prompt: Prompt) -> Prepared:
    gold = read_gold(options.gold) if options.gold is not None else {}
    if options.items is not None:
        listed = list(itertools.islice(read_items(options.items), options.limit))
        if not listed:
            raise UserError(f"{options.items} has no item; one JSON object a line, see docs/audit.md")

        def items() -> Iterator[dict[str, Any]]:
            return iter(listed)

        last = max(1, len(listed) - 1)
    else:
        taken, last = _works(options), 1

        def items() -> Iterator[dict[str, Any]]:
            for work, said in taken():
                if work.row.reversed_instruction and work.row.instruction_negatives:
                    texts = {doc_id: passage.text for doc_id, passage in work.texts.items()}
                    constraint = said.get("reversed_instruction", {}).get("lever", "all")
                    yield item_of(work.row, texts, constraint)

    def with_truth() -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
        for place, item in enumerate(items()):
            yield item, judging.truth_of(item, gold, place / last) if options.gold is not None else {}

    def tasks() -> Iterator[Task]:
        for item, known in with_truth():
            for _, task in judging.tasks_of(item, known):
                yield task

    is_given = options.items is not None
    return (
        tasks,
        lambda files, report, asking: write_judgments(files, report, asking, with_truth(), with_items=not is_given),
        (JUDGMENTS, ANSWERS) if is_given else (ITEMS, JUDGMENTS, ANSWERS),
    )


def _in_words(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines."""
    lines = [f"{summary['step']} by {summary['model']}, prompt {summary['prompt']}: {summary['written']:,} written"]
    for name in ("answers", "given_up", "passed_over", "reasons", "requests"):
        if any(summary[name].values()):
            lines.append(
                f"{name.replace('_', ' ')}: {', '.join(f'{n:,} {what}' for what, n in summary[name].items() if n)}"
            )
    if summary["not_answered"]:
        lines.append(f"not answered: {summary['not_answered']:,}; the same command asks again")
    lines.append(f"tokens: {summary['tokens_in']:,} in, {summary['tokens_out']:,} out; cost {summary['cost']:g}")
    if summary["perhaps_paid"]:
        lines.append(f"perhaps paid without an answer: {len(summary['perhaps_paid']):,} requests, listed in {SUMMARY}")
    if summary["stopped"]:
        lines.append(f"stopped: {summary['stopped']}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    with told_by_exit_code():
        return finish(_run, parser(), arguments, intermixed=True)


if __name__ == "__main__":
    sys.exit(main())

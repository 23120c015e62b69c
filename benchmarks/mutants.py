"""Change one thing in a module, run the tests that are the module's own, and see whether one of them notices.

    python -m benchmarks.mutants --module ablate.model.losses

A mutant is a module with one change: another comparison, another operator, a constant next door, `and` for `or`, a
condition turned round, a filter, a statement, a keyword argument or an end of a slice left out, None for what is
returned, two like arguments swapped. It lives in a copy of the repository in a temporary folder, never in the working
tree. One process imports the large packages and forks for each mutant, which then takes about a second; tests that
noticed others run first. What came of each is a line of JSON in `--out`, and a command that was interrupted goes on
from there.

    killed      a test failed            timeout   the tests took far longer than without a change: counts as killed
    survived    all tests passed         broken    the tests could not be collected: does not count

Survivors that no test can notice, because nothing is different, stand with their reason in docs/tests_that_bite.md.
"""

from __future__ import annotations

import argparse
import ast
import collections
import compileall
import contextlib
import copy
import gc
import hashlib
import importlib
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NOTES = ROOT / "docs" / "tests_that_bite.md"


class Target(NamedTuple):
    """The tests that are a module's own, quickest first, and what of the module is changed."""

    tests: tuple[str, ...]
    only: tuple[str, ...] = ()
    """Functions and classes; the whole module where none is named."""


TARGETS = {
    "ablate.recipe.values": Target(("config", "shipped"), ("plain", "flatten", "diff", "digest")),
    "ablate.recipe.identity": Target(("config", "shipped")),
    "ablate.recipe.factors": Target(("factors", "mix", "config")),
    "ablate.data.mix": Target(("mix", "factors", "published", "budgets")),
    "ablate.data.batches": Target(("batches", "prepared", "training")),
    "ablate.model.losses": Target(("losses",)),
    "ablate.model.module": Target(
        ("training",), ("rate_at", "FlopEstimate", "HalfCopy", "RetrieverModule", "MixData", "fit")
    ),
    "ablate.model.prepared": Target(("prepared", "training")),
    "analysis.stats.crossed": Target(("contrasts", "clusters", "significance")),
    "analysis.stats.grouping": Target(("clusters", "contrasts", "significance")),
    "analysis.stats.weights": Target(("contrasts", "significance")),
    "analysis.stats.clusters": Target(("clusters", "breakdown", "significance")),
    "analysis.stats.corrections": Target(("contrasts", "significance")),
    "analysis.verdict.rule": Target(("verdicts", "claims")),
    "analysis.verdict.judge": Target(("claims",)),
    "ablate.evaluation.measures": Target(("measures", "official_measures", "protocol")),
    "ablate.evaluation.instructed": Target(("instructed",)),
    "ablate.retrieval.rankings": Target(("measures", "search", "trec")),
}
"""By the dotted name of the module; a test file by the middle of its name."""

BY_HAND = {
    "ablate.model.module": (
        ("rate_at(self.steps_done, ", "rate_at(self.steps_done + 1, "),
        ("list(self._trained.values()), self._train.clip_norm)", "list(self._trained.values()), math.inf)"),
        ('own_generators(self._seed, "step", self.steps_done, *rank)', 'own_generators(self._seed, "step", *rank)'),
    ),
    "ablate.recipe.identity": (('"train": trained_by, "seed": seed}', '"train": trained_by}'),),
    "analysis.stats.crossed": (("seed_only + max(v_query - v_resid, 0.0)", "seed_only + (v_query - v_resid)"),),
}
"""Mistakes that somebody made or feared, by module: what stands there once, and the mistake. In every sample."""

LARGE = (
    "torch",
    "lightning.pytorch",
    "transformers",
    "peft",
    "safetensors.torch",
    "scipy.special",
    "scipy.stats",
    "numpy",
    "pyarrow.parquet",
    "faiss",
    "bm25s",
    "pytrec_eval",
    "hydra",
    "omegaconf",
    "yaml",
    "tqdm",
    "pytest",
    "hypothesis",
)
"""Packages that tests import and no mutant changes."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.RShift: ast.LShift,
}
NOT_SWAPPED = {"min", "max", "isinstance", "getattr", "vdot", "array_equal"}
"""Functions whose first two arguments may change places, or of which every call would break."""
OPTIONS = ("-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider")
"""Of pytest: nobody reads what a failing test has to say."""
TOP = "(module)"
"""What stands for the name of a function where there is none around."""
LONGEST = 90
"""Characters of code that a line about a change repeats."""


class Mutant(NamedTuple):
    """One change to a module."""

    module: str
    line: int
    function: str
    """Dotted name of what it stands in."""
    kind: str
    change: str
    """What was there → what is there, or what is left out."""
    start: int
    """In bytes of the source, as `end`."""
    end: int
    new: str

    def applied(self, source: bytes) -> bytes:
        """Return the changed source."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def mutants_of(module: str, source: bytes, only: Sequence[str] = ()) -> list[Mutant]:
    """Return all mutants of a module in the order of its lines; of `only` some functions and classes, where named.

    Assertions (and `strict` of zip, which is one), annotations, decorators and texts are not changed; what stands in an
    f-string is.
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []

    def visit(node: ast.AST, names: tuple[str, ...], around: ast.AST, text: ast.expr | None) -> None:
        """Collect the mutants of a node in `around`; inside the f-string `text` all of that is replaced."""
        if isinstance(node, ast.Assert) or (isinstance(node, ast.keyword) and node.arg == "strict"):
            return
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = (*names, node.name)
        if isinstance(node, ast.JoinedStr):
            text = text or node
        if not only or {*names} & {*only}:
            for kind, old, new in changes(node):
                if isinstance(around, ast.UnaryOp) and isinstance(new, ast.UnaryOp):
                    continue  # -(-1) is what leaving out the sign makes
                place: Any = text or old
                start = starts[place.lineno - 1] + place.col_offset
                end = starts[place.end_lineno - 1] + place.end_col_offset
                try:
                    written = ast.unparse(copy.deepcopy(place, {id(old): new}))
                    ast.parse(written if place is text else "")
                except (SyntaxError, ValueError):  # Python 3.11 cannot write every f-string that it can read
                    continue
                if isinstance(place, ast.expr) and not isinstance(place, (ast.JoinedStr, ast.Slice)):
                    written = f"({written})"
                shown = around if old is node and isinstance(around, ast.expr) and around is not text else old
                shown = shown if len(ast.unparse(shown)) <= LONGEST else old
                change = f"{_line(shown)} → {_line(copy.deepcopy(shown, {id(old): new}))}"
                if kind == "keyword":
                    (left_out,) = {keyword.arg for keyword in old.keywords} - {one.arg for one in new.keywords}
                    change = f"{_line(old)} without {left_out or '**'}"
                where = ".".join(names) or TOP
                found.append(Mutant(module, place.lineno, where, kind, change, start, end, written))
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list", "format_spec"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        visit(child, names, node, text)

    tree = ast.parse(source)
    visit(tree, (), tree, None)
    distinct = {(mutant.start, mutant.end, mutant.new): mutant for mutant in reversed(found)}
    times: collections.Counter[tuple[str, str]] = collections.Counter()
    named = []
    for mutant in sorted(distinct.values(), key=lambda mutant: (mutant.start, mutant.end)):
        times[mutant.function, mutant.change] += 1
        number = times[mutant.function, mutant.change]
        named.append(mutant if number == 1 else mutant._replace(change=f"{mutant.change} (place {number})"))
    return named


def mutants_by_hand(module: str, source: bytes) -> list[Mutant]:
    """Return the mutants of `BY_HAND`; raises ValueError for one whose text does not stand once in the module."""
    found = []
    for old, new in BY_HAND.get(module, ()):
        if source.count(old.encode()) != 1:
            raise ValueError(f"{module} does not hold {old!r} once; write it in BY_HAND as it is now")
        start = source.index(old.encode())
        line = source[:start].count(b"\n") + 1
        found.append(Mutant(module, line, TOP, "by hand", f"{old} → {new}", start, start + len(old.encode()), new))
    return found


def _line(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 32]} … {text[-29:]}"


def changes(node: ast.AST) -> Iterator[tuple[str, Any, Any]]:
    """Yield the mutants of one node: their kind, what is replaced (the node or what it holds), and by what."""
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    yield "comparison", node, _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BinOp() if type(node.op) in OPERATORS and not _is_text(node.left) and not _is_text(node.right):
            yield "operator", node, _with(node, op=OPERATORS[type(node.op)]())
        case ast.BoolOp():
            yield "and/or", node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp():
            yield "sign", node, node.operand
        case ast.Constant(value=bool()):
            yield "constant", node, ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield "constant", node, ast.Constant(node.value + 1)
            yield "constant", node, ast.Constant(node.value - 1)
        case ast.Constant(value=float()):
            if node.value + 1 != node.value:
                yield "constant", node, ast.Constant(node.value + 1)
            if node.value:
                yield "constant", node, ast.UnaryOp(ast.USub(), node)
        case ast.comprehension():
            for condition in node.ifs:
                yield "filter", condition, ast.Constant(True)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant) or node.value.value:
            yield "returned", node.value, ast.Constant(None)
        case ast.Slice():
            for end in ("lower", "upper"):
                if getattr(node, end) is not None:
                    yield "slice", node, _with(node, **{end: None})
        case ast.Expr() if not isinstance(node.value, ast.Constant):
            yield "left out", node, ast.Pass()
        case ast.Assign() if not isinstance(node.targets[0], (ast.Name, ast.Tuple)):
            yield "left out", node, ast.Pass()
        case ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            yield "left out", node, ast.Pass()
        case ast.Call():
            for keyword in (keyword for keyword in node.keywords if keyword.arg != "strict"):
                kept = [other for other in node.keywords if other is not keyword]
                yield "keyword", node, _with(node, keywords=kept)
            name = ast.unparse(node.func).rpartition(".")[2]
            like = len(node.args) > 1 and type(node.args[0]) is type(node.args[1])
            if like and name not in NOT_SWAPPED and ast.dump(node.args[0]) != ast.dump(node.args[1]):
                yield "swapped", node, _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    if isinstance(node, (ast.If, ast.IfExp, ast.While)) and not isinstance(node.test, (ast.Compare, ast.UnaryOp)):
        yield "condition", node.test, ast.UnaryOp(ast.Not(), node.test)


def _with(node: Any, **values: Any) -> Any:
    """Return a copy of a node with other values of its fields."""
    return type(node)(**{**dict(ast.iter_fields(node)), **values})


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


class Outcome(NamedTuple):
    """What the tests said of a mutant."""

    outcome: str
    by: str
    """The first test that failed."""
    seconds: float
    """Of processor."""


class Runner:
    """Runs tests on a changed copy of the repository, each time in a fork of this process."""

    def __init__(self, folder: Path) -> None:
        """Copy the repository into a folder and import the large packages."""
        self.copy = folder / "ablate"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "results", "outputs", "multirun")
        shutil.copytree(ROOT, self.copy, ignore=ignored)
        self.log = folder / "log"
        self.noticed: collections.Counter[str] = collections.Counter()
        """How many mutants a test has killed."""
        compileall.compile_dir(self.copy, quiet=1)
        for name in LARGE:
            importlib.import_module(name)
        gc.freeze()  # a fork does not look through what was here before it

    def run(self, tests: Sequence[str], limit: float) -> Outcome:
        """Return what the test files say of the copy as it is, one after the other to the first failure.

        `limit` is in seconds of processor, so that a busy machine stops no tests; they may take ten times as long.
        """
        started = time.monotonic()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))
            self._test(tests, writing)  # does not return
        os.close(writing)
        ended: Any = (0, 0, None)
        while not ended[0] and time.monotonic() - started < 10 * limit:
            ended = os.wait4(child, os.WNOHANG)
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # with what the tests have started
        if not ended[0]:
            ended = os.wait4(child, 0)
        with os.fdopen(reading) as said:
            by = said.read()
        status = os.waitstatus_to_exitcode(ended[1])
        outcome = {-signal.SIGXCPU: "timeout", -signal.SIGKILL: "timeout", 0: "survived", 2: "broken", 4: "broken"}
        return Outcome(outcome.get(status, "killed"), by, ended[2].ru_utime + ended[2].ru_stime)

    def _test(self, tests: Sequence[str], writing: int) -> None:
        import pytest

        os.setpgid(0, 0)
        os.chdir(self.copy)
        with open(self.log, "wb") as log, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ |= {
            "PYTHONPATH": str(self.copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        sys.path = [str(self.copy), *(path for path in sys.path if Path(path).resolve() != ROOT)]
        sys.dont_write_bytecode = True
        code = 70
        try:
            for name in tests:
                code = pytest.main([*OPTIONS, f"tests/test_{name}.py"], [self._plugin(writing)])
                if code:
                    break
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(code))

    def _plugin(self, writing: int) -> Any:
        noticed = self.noticed

        class Plugin:
            """Puts the tests first that noticed most, and says which one failed."""

            def pytest_collection_modifyitems(self, items: list[Any]) -> None:
                items.sort(key=lambda item: -noticed[item.nodeid])

            def pytest_runtest_logreport(self, report: Any) -> None:
                if report.failed:
                    os.write(writing, report.nodeid.encode())

        return Plugin()


def examine(runner: Runner, module: str, chosen: Sequence[Mutant], known: dict[str, Any], out: Path) -> None:
    """Run the tests of a module on mutants of it that are not known yet, and append what came of each to a file."""
    target = TARGETS[module]
    path = runner.copy / f"{module.replace('.', '/')}.py"
    source = path.read_bytes()
    whole = runner.run(target.tests, 1200)
    if whole.outcome != "survived":
        sys.exit(f"{module}: its tests fail without a change ({whole.by or runner.log.read_text()[-2000:]})")
    limit = 10 + 3 * whole.seconds
    print(f"{module}: {len(chosen)} mutants, {whole.seconds:.1f} s of tests", flush=True)
    try:
        for cached in path.parent.glob(f"__pycache__/{path.stem}.*"):
            cached.unlink()
        for mutant in chosen:
            if name_of(mutant, source) in known:
                continue
            path.write_bytes(mutant.applied(source))
            found = runner.run(target.tests, limit)
            runner.noticed[found.by] += 1
            if found.outcome == "survived":
                print(f"  line {mutant.line}, {mutant.function}: {mutant.change}", flush=True)
            line = {"name": name_of(mutant, source), **mutant._asdict(), **found._asdict()}
            with open(out, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    finally:
        path.write_bytes(source)


def name_of(mutant: Mutant, source: bytes) -> str:
    """Return what tells a mutant from all others, also of other versions of its module."""
    return hashlib.sha256(mutant.module.encode() + b"\0" + mutant.applied(source)).hexdigest()[:16]


def equivalents(notes: str) -> set[tuple[str, str, str]]:
    """Return module, function and change of the mutants that the notes list as equivalent: rows of four columns."""
    rows = [line.strip("| ").split(" | ") for line in notes.splitlines() if line.startswith("| `")]
    return {tuple(part.strip("` ").replace("\\|", "|") for part in row[:3]) for row in rows if len(row) == 4}


def summary(lines: Sequence[dict[str, Any]], listed: set[tuple[str, str, str]]) -> str:
    """Return the table of figures by module, and the survivors that are not listed as equivalent."""
    rows = ["| module | mutants | killed | equivalent | survived | killed of the others |", "|---|---|---|---|---|---|"]
    left, totals = [], [0, 0, 0, 0]
    for module in dict.fromkeys(line["module"] for line in lines):
        own = [line for line in lines if line["module"] == module and line["outcome"] != "broken"]
        survived = [line for line in own if line["outcome"] == "survived"]
        alive = [line for line in survived if (module, line["function"], line["change"]) not in listed]
        counts = [len(own), len(own) - len(survived), len(survived) - len(alive), len(alive)]
        rows.append(_row(f"`{module}`", counts))
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        left += [f"{module} line {line['line']}, {line['function']}: {line['change']}" for line in alive]
    return "\n".join([*rows, _row("all", totals), "", *left])


def _row(name: str, counts: Sequence[int]) -> str:
    able = counts[0] - counts[2]
    return f"| {name} | {' | '.join(map(str, counts))} | {counts[1] / max(able, 1):.1%} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Examine mutants and print the table; exit code 1 when one survived that is not listed as equivalent."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants",
        description="Change one thing in a module at a time and see whether a test notices.",
        epilog="example: python -m benchmarks.mutants --module ablate.recipe.factors --sample 60 --seed 1",
    )
    made.add_argument("--module", action="append", choices=list(TARGETS), help="by default all; several are allowed")
    made.add_argument("--sample", type=int, help="so many mutants of each module, drawn at random; by default all")
    made.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    made.add_argument("--out", type=Path, default=ROOT / "results" / "mutants.jsonl", help="file of what came of them")
    made.add_argument("--again", action="store_true", help="run again on those that survived")
    made.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    args = made.parse_args(argv)
    chosen: dict[str, list[Mutant]] = {}
    named: dict[str, Mutant] = {}
    for module in args.module or TARGETS:
        source = (ROOT / f"{module.replace('.', '/')}.py").read_bytes()
        mutants = mutants_of(module, source, TARGETS[module].only)
        if args.sample is not None and args.sample < len(mutants):
            drawn = random.Random(args.seed).sample(range(len(mutants)), args.sample)
            mutants = [mutants[place] for place in sorted(drawn)]
        chosen[module] = [*mutants_by_hand(module, source), *mutants]
        named |= {name_of(mutant, source): mutant for mutant in chosen[module]}
    if args.list:
        for mutant in (mutant for mutants in chosen.values() for mutant in mutants):
            print(f"{mutant.module} line {mutant.line}, {mutant.function}, {mutant.kind}: {mutant.change}")
        print("; ".join(f"{module} {len(mutants)}" for module, mutants in chosen.items()))
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    known = read(args.out)
    if args.again:
        known = {name: line for name, line in known.items() if line["outcome"] != "survived"}
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder))
        for module, mutants in chosen.items():
            examine(runner, module, mutants, known, args.out)
    found = read(args.out)
    lines = [{**found[name], **mutant._asdict()} for name, mutant in named.items()]
    text = summary(lines, equivalents(NOTES.read_text(encoding="utf-8")))
    print(text)
    return 0 if text.endswith("\n") else 1


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of a file by the name of their mutant; of several of one mutant the last."""
    if not path.exists():
        return {}
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["name"]: line for line in lines}


if __name__ == "__main__":
    sys.exit(main())

"""Faults at exact operations: a study of two arms is struck, its command issued again, and what it ends with compared.

    python -m benchmarks.faults --seed 0 --rounds 1000        # a seed decides every fault
    python -m benchmarks.faults --replay 'torn@57 term@12'    # one round again: strikes at operations, then damage
    python -m benchmarks.faults --replay 'flip:3:0.5'         # the file of that number, at that share of its bytes

A strike is `KIND@K` (see `benchmarks.fault_shim`): what happens at the K-th operation under results/. A damage is
`KIND:FILE:SHARE` with KIND flip, truncate, zero, exchange (with the other arm's file) or vanish. Every round runs in
forked processes that have imported everything. After each fault the same command must end with the scores, and nothing
that was complete may be made twice; or, for a damaged file, with one line that names it and says what to delete, and
after that with the scores. Exit code 1 when a round ends otherwise. `benchmarks.kills` kills joblib and whole studies.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ablate.cli.command import output_file, write_text
from ablate.cli.interrupts import told_by_exit_code
from ablate.store.files import FOLDERS
from ablate.store.integrity import sha256_of
from ablate.store.results import ResultStore
from benchmarks.fault_shim import STRIKES, Shim

ARMS = ("instructions", "dual_view")
VALUES = (
    "seed=0",
    "runtime.study=faults",
    "model=tiny",
    "source.documents=600",
    "budget.limit=8",
    "train.batch_size=4",
    "evaluation.sets=[test]",
    "tracker=none",
    "runtime.dev_set=null",
    "runtime.threads=1",
    "runtime.checkpoint_every=1",
)
DAMAGES = ("flip", "truncate", "zero", "exchange", "vanish")
CODES = {"before": -9, "after": -9, "torn": -9, "full": 2, "term": 143, "int": 130, "hup": 129}
"""What a struck command may end with; 0 besides when it ended before the operation, or -9 where no code comes back."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    said: str
    operations: int
    """Under results/; 0 when it was killed."""


class Study:
    """The study that is struck, with all that its commands need loaded once."""

    def __init__(self, folder: Path) -> None:
        self.results, self.log, self.count = folder / "results", folder / "log.txt", folder / "count.txt"
        import pyarrow.parquet  # noqa: F401
        import safetensors.torch  # noqa: F401
        import torch  # noqa: F401
        import transformers.modeling_utils  # noqa: F401

        import ablate.evaluation.scoring
        import ablate.model.module  # noqa: F401
        from ablate import run  # noqa: F401
        from ablate.compose import cell_of, load
        from ablate.engine import display  # noqa: F401
        from ablate.engine.prepare import prepare  # noqa: F401
        from ablate.store import provenance  # noqa: F401
        from ablate.study import planning  # noqa: F401
        from ablate.tracking import ledger

        state = provenance.git_state()
        provenance.git_state = lambda: state  # type: ignore[assignment]
        ledger.FSYNC_EVERY_S = 0.0  # so that the number of operations does not depend on the time
        opened: dict[Any, Any] = {}

        def composed(overrides: tuple[str, ...]) -> planning.Composed:
            return cell_of(load(overrides))

        points = [planning.Point((f"+experiment={arm}", *VALUES), ()) for arm in ARMS]
        cells = planning.plan(points, composed, lambda config: prepare(config, opened=opened).identity)
        for cell in cells:
            assert cell.config is not None, cell.reason
            runtime = dataclasses.replace(cell.config.runtime, results=str(self.results))
            cell.config = dataclasses.replace(cell.config, runtime=runtime)
        self.cells = cells

    def command(self, strike: str = "", at: int = 0, *, one_by_one: bool = False) -> Ended:
        """Run the study in a process of its own, with a fault at one of its operations.

        `one_by_one`: each run by itself, as `ablate.run` without `-m`, which reads and checks what is finished; a study
        only looks whether its cells are.
        """
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # `nohup … &` ignores both
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
                file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, 1)
                os.dup2(file, 2)
                shim = Shim(self.results, strike, at)
                with told_by_exit_code():
                    shim.install()
                    code = self._run(one_by_one)
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                self.count.write_text(str(shim.number))
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        number = int(self.count.read_text()) if self.count.exists() else 0
        self.count.unlink(missing_ok=True)
        return Ended(code, self.log.read_text(errors="replace") if self.log.exists() else "", number)

    def _run(self, one_by_one: bool) -> int:
        """Do what the sweeper does with its cells, or what a run does with each of them."""
        from ablate import run
        from ablate.study import running

        try:
            if one_by_one:
                for cell in self.cells:
                    run.execute(cell.config)
                return 0
            board = running.Board(ResultStore(self.results), self.cells)

            def launch(cell: Any, _: int) -> Exception | None:
                try:
                    run.execute(cell.config)
                except Exception as error:
                    runtime = dataclasses.asdict(cell.config.runtime)
                    return running.keep_failure(runtime, cell.config.seed, error)
                return None

            running.run_one_by_one(board, launch)
        except Exception as error:
            message = running.user_message(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            return 2
        return 2 if board.failed else 0

    def complete(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Return the stages that are complete: when each was, and the digests of its files."""
        store = ResultStore(self.results)
        stages = {}
        for kind in FOLDERS:
            for path in (self.results / FOLDERS[kind]).glob("*/manifest.json"):
                try:
                    values = json.loads(path.read_text())
                    folder = store.folder(kind, values["id"])  # type: ignore[arg-type]
                    files = {name: sha256_of(folder / name) for name in values["content_sha256"]}
                    told = values["finished"] if files == values["content_sha256"] else "damaged"
                    stages[f"{kind} {values['id']}"] = (f"{told} {values['started']}", files)
                except (OSError, ValueError, KeyError, TypeError):
                    continue
        return stages

    def files(self) -> list[Path]:
        """Return the files of all finished stages."""
        return sorted(path for name in FOLDERS.values() for path in (self.results / name).rglob("*") if path.is_file())


def digests(complete: dict[str, tuple[str, dict[str, str]]]) -> dict[str, dict[str, str]]:
    """Return the digests of the files of each stage."""
    return {name: files for name, (_, files) in complete.items()}


def damage(study: Study, kind: str, number: int, share: float) -> Path:
    """Damage a file of the finished study and return it."""
    files = study.files()
    path = files[number % len(files)]
    data = bytearray(path.read_bytes())
    place = min(int(share * len(data)), max(0, len(data) - 1))
    if kind == "flip" and data:
        data[place] ^= 1 << (number % 8)
    elif kind == "truncate":
        del data[place:]
    elif kind == "zero":
        data[place:] = bytes(len(data) - place)
    elif kind == "exchange":
        others = [other for other in files if other.name == path.name and other != path]
        data = bytearray(others[0].read_bytes()) if others else data
    path.unlink() if kind == "vanish" else path.write_bytes(data)
    return path


def one_round(study: Study, faults: Sequence[str], reference: Path, right: dict[str, dict[str, str]]) -> str:
    """Strike the study, issue its command until it is whole, and return the outcome in a few words."""
    shutil.rmtree(study.results, ignore_errors=True)
    for fault in faults:
        if "@" in fault:
            kind, _, at = fault.partition("@")
            before = study.complete()
            ended = study.command(kind, int(at))
            if ended.code not in (0, CODES[kind]):
                return f"WRONG EXIT CODE {ended.code} of {fault}: {ended.said[-300:]!r}"
            if ended.code == 0 and kind in ("term", "int", "hup") and ended.operations >= int(at):
                return f"EXIT CODE 0 after {fault}"
            after = study.complete()
            if any(after.get(name) != value for name, value in before.items()):
                return "MADE TWICE: a stage that was complete"
            continue
        shutil.rmtree(study.results, ignore_errors=True)
        shutil.copytree(reference, study.results)
        kind, number, share = fault.split(":")
        path = damage(study, kind, int(number), float(share))
        ended = study.command(one_by_one=True)
        if ended.code == 0:
            return "identical" if digests(study.complete()) == right else f"UNNOTICED: {path.name}"
        lines = [line for line in ended.said.splitlines() if re.search(r"\b(delete|move)\b", line)]
        told = [line for line in lines if path.parent.name in line or path.name in line]
        if "Traceback" in ended.said or not told:
            return f"NOT ONE LINE: {path.name}: {ended.said[-300:]!r}"
        named = re.search(r"(?:delete|move) (/\S+?)(?: away)?(?:[ ;,)]|$)", told[0])
        if named is None or not Path(named[1]).is_relative_to(study.results):
            return f"NO REMEDY: {path.name}: {told[0][-200:]}"
        shutil.rmtree(named[1]) if Path(named[1]).is_dir() else Path(named[1]).unlink(missing_ok=True)
    before = study.complete()
    ended = study.command()
    after = study.complete()
    if ended.code != 0:
        return f"NOT FINISHED ({ended.code}): {ended.said[-300:]!r}"
    if any(after.get(name) != value for name, value in before.items() if not value[0].startswith("damaged")):
        return "MADE TWICE: a stage that was complete"
    litter = [path.name for path in study.results.rglob(".*") if path.name != ".takeover"]
    if litter:
        return f"LITTER: {litter[:3]}"
    return "identical" if digests(after) == right else "OTHER SCORES"


def drawn(seed: int, number: int, operations: int) -> list[str]:
    """Return the faults of one round: one to three strikes, or a damage to a file, each as likely as the other."""
    draws = random.Random(f"{seed}/{number}")
    if draws.random() < 0.5:
        return [f"{draws.choice(DAMAGES)}:{draws.randrange(10_000)}:{draws.random():.3f}"]
    return [f"{draws.choice(STRIKES)}@{draws.randint(1, operations)}" for _ in range(draws.randint(1, 3))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds, print a table of outcomes, and return 0 when every one of them ended right."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Strikes a small study at exact file operations and checks what the same command makes of it.",
        epilog="Example: python -m benchmarks.faults --seed 1 --rounds 100 --json faults.json",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides every fault (default: 0)")
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds (default: 20)")
    parser.add_argument("--replay", metavar="FAULTS", help="instead: one round with these faults, as they are printed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the round that passes this")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write every round and its outcome")
    options = parser.parse_args(arguments)
    outcomes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        study, reference = Study(Path(name)), Path(name) / "reference"
        whole = study.command()
        if whole.code:
            print(whole.said, file=sys.stderr)
            return 1
        right = digests(study.complete())
        shutil.copytree(study.results, reference)
        print(f"uninterrupted: {whole.operations} operations, {len(right)} stages, {len(study.files())} files")
        given = [options.replay.split()] if options.replay else None
        began = time.monotonic()
        for number in range(1 if given else options.rounds):
            faults = given[0] if given else drawn(options.seed, number, whole.operations)
            outcome = one_round(study, faults, reference, right)
            outcomes.append({"round": number, "faults": faults, "outcome": outcome})
            if outcome != "identical" or given:
                print(f"round {number}: --replay '{' '.join(faults)}': {outcome}", flush=True)
            if time.monotonic() - began > options.seconds:
                break
    kinds = {re.split("[@:]", fault)[0] for record in outcomes for fault in record["faults"]}
    print(f"{len(outcomes)} rounds in {time.monotonic() - began:.0f} s")
    for kind in sorted(kinds):
        mine = [o["outcome"] for o in outcomes if any(re.split("[@:]", f)[0] == kind for f in o["faults"])]
        counts = collections.Counter(re.split(r"[:(\d]", text)[0].strip() for text in mine)
        print(f"  {kind:<9}{len(mine):>5} rounds: " + ", ".join(f"{n} {text}" for text, n in counts.most_common()))
    if options.json:
        write_text(options.json, json.dumps({"seed": options.seed, "outcomes": outcomes}, indent=1))
    return 0 if all(record["outcome"] == "identical" for record in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

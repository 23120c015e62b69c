"""Shared pieces of the tests: composed configurations, a hand-made source, the place of the real data sets."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate.cli.overrides import quoted
from ablate.recipe.build import build_run
from ablate.recipe.schema import RunConfig
from ablate.records import EvaluationSet, Passage, SourceRow, UserError

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make test-extras` and `make test-odd`."""
    parser.addoption("--extras", action="store_true", help="a missing package of an extra is a failure, no skip")
    parser.addoption("--other-bf16", action="store_true", help="the processor's bf16 is the other way in this process")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let a test that is skipped for a package of an extra fail where `make test-extras` has it or would miss it."""
    report: Any = yield
    return checked_skip(report, item.config, marked=item.get_closest_marker("extras") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """The same for a module that is skipped as a whole."""
    report: Any = yield
    return checked_skip(report, collector.config, marked=True)


def checked_skip(report: Any, config: pytest.Config, *, marked: bool) -> Any:
    """Return a report, as a failure where it is a skip that must not be."""
    if report.skipped and NEEDS_EXTRA in str(report.longrepr) and (config.getoption("--extras") or not marked):
        report.outcome = "failed"
        report.longrepr = f"{report.longrepr[2]}: {'install it' if marked else 'mark the test pytest.mark.extras'}"
    return report


@pytest.fixture(scope="session", autouse=True)
def other_bf16(request: pytest.FixtureRequest) -> Iterator[None]:
    """Under --other-bf16, a processor that multiplies bf16 natively does not, and the other way round."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--other-bf16"):
            from ablate.model import device

            bf16, read = {"amx_bf16", "avx512_bf16"}, device.processor_flags

            def other_flags(*cpuinfo: Path) -> list[str]:
                flags = read(*cpuinfo)
                if cpuinfo:  # a file of a test's own
                    return flags
                return [flag for flag in flags if flag not in bf16] if bf16 & {*flags} else [*flags, "avx512_bf16"]

            patch.setattr(device, "processor_flags", other_flags)
        yield


NEEDS_EXTRA = "needs a package of an extra"


def extra(module: str, minversion: str | None = None) -> Any:
    """Return a module that comes with an extra, or skip the test, which is marked `extras`."""
    try:
        return pytest.importorskip(module, minversion, exc_type=ImportError)
    except pytest.skip.Exception as missing:
        pytest.skip(f"{missing.msg}: {NEEDS_EXTRA}", allow_module_level=True)


def override(key: str, value: Any) -> str:
    """Return an override, with quotation marks where the value needs them: a path may hold anything."""
    return quoted(key, value)


def compose(*overrides: str) -> dict[str, Any]:
    """Return the composed configuration of a command line as plain values, free to be changed."""
    return copy.deepcopy(_compose(*overrides))


@functools.cache
def _compose(*overrides: str) -> dict[str, Any]:
    from ablate.compose import load, values_of

    return values_of(load(overrides))


def run_config(*overrides: str) -> RunConfig:
    """Return the frozen configuration of a command line."""
    return build_run(compose(*overrides))


def data_folder(name: str) -> Path:
    """Return the folder of a real data set, or skip the test when it is not there."""
    folder = Path(os.environ.get("ABLATE_DATA_DIR", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not at {folder}; set ABLATE_DATA_DIR")
    return folder


class HandMadeSource:
    """`num_queries` queries with two rows each; passage ids say what they are: q0r1+ (positive), q0r1-0 (negative)."""

    revision = "hand-made-1"
    evaluation_names = ("test",)

    def __init__(self, num_queries: int = 8, **changes: Any) -> None:
        self.num_queries = num_queries
        self.changes = changes

    def rows(self) -> Iterator[SourceRow]:
        for query in range(self.num_queries):
            for row in range(2):
                name = f"q{query}r{row}"
                values: dict[str, Any] = dict(
                    row_id=name,
                    query_id=f"q{query}",
                    query=f"query {query}",
                    instruction=f"only {name}",
                    reversed_instruction=f"not {name}",
                    paraphrase=f"nothing but {name}",
                    positives=(f"{name}+",),
                    hard_negatives=tuple(f"{name}h{index}" for index in range(4)),
                    instruction_negatives=tuple(f"{name}-{index}" for index in range(3)),
                    still_negative=(f"{name}-2",),
                    answers=tuple(f"q{query}r{other}{kind}" for other in range(2) for kind in ("+", "-0", "-1", "-2")),
                )
                values |= self.changes
                both = (*values["positives"], *values["instruction_negatives"])
                known = {
                    "broad": f"any q{query}",
                    "restyled": tuple(f"{doc_id}*" for doc_id in both),
                }
                yield SourceRow(**{**known, **values})

    def generated(self, doc_id: str) -> bool:
        return "-" in doc_id

    def style_of(self, doc_id: str) -> str | None:
        return None

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        for doc_id in doc_ids:
            yield Passage(doc_id, f"text of {doc_id}")

    def evaluation_set(self, name: str) -> EvaluationSet:
        raise UserError(f"the hand-made source has no evaluation set {name!r}")


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the arm dual_view in the study `polarity` with seeds 0 and 1, by a tiny model; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    results = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny_runs"  # one for all workers
    overrides = (
        "+experiment=dual_view",
        "seed=0,1",
        "model=tiny",
        "source.documents=600",
        "evaluation.sets=[test]",
        "budget.limit=16",
        "train.batch_size=8",
        "tracker=none",
        "runtime.dev_set=null",
        "runtime.threads=1",
        "runtime.study=polarity",
        override("runtime.results", results),
    )
    command = [sys.executable, "-m", "ablate.run", "-m", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return results


@pytest.fixture
def own_tiny_runs(tiny_runs: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_runs` that a test may change."""
    return shutil.copytree(tiny_runs, tmp_path / "results")


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """This machine's browser without a window; where there is none, the test, marked `extras`, is skipped."""
    driving = extra("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install --no-install-recommends chromium fonts-dejavu-core")
    with driving.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, headless=True, chromium_sandbox=False, args=[*OFFLINE, "--disable-sync"]
        )
        yield opened
        opened.close()

"""Every option that names a place to be written: folders on the way are made, a bad place is refused before work."""

from __future__ import annotations

import ast
import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from audit_sample import make_sample
from bad_inputs.significance import GOOD, clustered
from conftest import ROOT
from synthetic_study import Arm, claim, declare, make_quick, make_study, study_block

STUDY = ("s", "--results", "{dir}/r")
SCORED = ("--run", "{dir}/a.run", "--qrels", "{dir}/a.qrels")
ITEM = {
    "id": "i",
    "query_id": "q",
    "query": "fish",
    "passage_a": "old",
    "passage_b": "new",
    "instruction": "only old",
    "complement": "not old",
    "constraint_type": "date",
}
ANSWERS = {
    "a_under_instruction": True,
    "b_under_instruction": False,
    "a_under_complement": False,
    "b_under_complement": True,
}
AUDIT = ("--items", "{dir}/items.jsonl", "--judgments", "{dir}/judged.jsonl")
SIMULATED = ("--engine", "simulated", "--model", "usual")
STATED = ("--sd-seed", ".01", "--sd-query", ".1", "--sd-resid", ".1", "--seeds", "5", "--units", "100")
LONG = (*SCORED, "--arm", "A", "--seed", "0", "--dataset", "D")


REPORTED = (
    *("arms", "budgets", "claims", "configuration_differs", "configuration_shared", "contrasts", "costs", "fairness"),
    *("packages", "provenance", "runs", "units"),
)
"""Tables of the report of the study that `inputs` makes."""


class Output(NamedTuple):
    """An option of a command that names a place."""

    module: str
    option: str
    place: str
    """What it is called with, below a folder that is not there."""
    written: Sequence[str] = ()
    """Files that are then there, below `place`; none where `place` is the file."""
    given: Sequence[str] | None = None
    """What else makes the command run in moments; None where nothing does."""


OUTPUTS = [
    *(Output(f"analysis.{name}", "--json", "x.json", (), STUDY) for name in ("budgets", "costs", "fairness", "claims")),
    *(Output("analysis.claims", f"--{name}", f"x.{name}", (), STUDY) for name in ("markdown", "latex", "csv")),
    *(
        Output(
            "analysis.breakdown",
            f"--{name}",
            f"x.{name}",
            (),
            ("--scores", "{dir}/clusters.csv", "--baseline", "a"),
        )
        for name in ("json", "markdown", "latex", "csv")
    ),
    Output("analysis.verify", "--packet", "x.tar.gz", (), STUDY),
    Output("analysis.noise_floor", "--json", "x.json"),
    Output("analysis.explain", "--json", "x.json", (), (*STUDY, "--worst", "a", "b")),
    Output("analysis.dose_response", "--json", "x.json"),
    Output(
        "analysis.report",
        "--out",
        "out",
        [
            *(f"report.{kind}" for kind in ("html", "md", "tex")),
            *(f"figures/{name}.svg" for name in ("forest_arms", "forest_claims", "units_1")),
            *(f"tables/{name}.csv" for name in REPORTED),
        ],
        STUDY,
    ),
    Output("analysis.wandb_report", "--out", "x.json"),
    *(Output("analysis.leaks", f"--{name}", f"x.{name}") for name in ("json", "csv")),
    Output("analysis.collect", "--out", "x.parquet", (), STUDY),
    Output("analysis.significance", "--json", "x.json", (), ("--scores", "{dir}/s.csv", "--baseline", "a")),
    Output(
        "analysis.significance",
        "--out",
        "out",
        [f"significance.{kind}" for kind in ("md", "tex", "csv", "json")],
        ("--scores", "{dir}/s.csv", "--baseline", "a"),
    ),
    Output("analysis.power", "--out", "out", ("power.md", "power.json", "power.svg"), STATED),
    Output("analysis.score", "--json", "x.json", (), SCORED),
    Output("analysis.score", "--scores", "x.csv", (), LONG),
    Output("analysis.score", "--scores", "x.parquet", (), LONG),
    Output("analysis.inversion_audit", "--json", "x.json", (), AUDIT),
    *(Output("analysis.inversion_audit", f"--{name}-to", "x.jsonl") for name in ("items", "gold")),
    Output("analysis.import_wandb", "--csv", "x.csv"),
    Output("analysis.import_wandb", "--scores", "x.csv"),
    Output("benchmarks.growth", "--to", "x.md"),
    Output("benchmarks.growth", "--json", "x.json"),
    Output(
        "analysis.sample_for_audit",
        "--to",
        "out",
        ("items.jsonl", "design.json"),
        ("--items", "{dir}/items.jsonl", "--size", "1", "--known-bad", "0"),
    ),
    Output("analysis.annotate", "--to-csv", "x.csv", (), ("{dir}/sample/audit",)),
    Output("ablate.export", "--to", "out"),
    Output("ablate.reference", "--to", "x.md", (), ()),
    Output(
        "ablate.synthesize",
        "--out",
        "out",
        ("rows.jsonl", "answers.jsonl", "summary.json"),
        ("paraphrase", "--replace", "--limit", "2", *SIMULATED, "--cache", "{dir}/c.sqlite"),
    ),
    Output(
        "ablate.synthesize",
        "--cache",
        "x.sqlite",
        (),
        ("paraphrase", "--replace", "--limit", "2", *SIMULATED, "--out", "{dir}/out"),
    ),
    Output(
        "ablate.testbed",
        "--to",
        "out",
        (
            "corpus.jsonl",
            "queries.jsonl",
            *(f"qrels/{name}test.tsv" for name in ("", "og_", "usual_", "unusual_", "diff_usual_", "diff_unusual_")),
        ),
        ("test", "source.documents=600", "runtime.results={dir}/r"),
    ),
    Output(
        "benchmarks.audit_coverage",
        "--json",
        "x.json",
        (),
        ("--audits", "1", "--truths", ".9", "--labels", "100", "--kinds", "2", "--iccs", "0", "--judges", "good"),
    ),
    Output("benchmarks.beside", "--json", "x.json"),
    Output("benchmarks.beside", "--to", "x.md"),
    Output("benchmarks.calibration", "--json", "x.json"),
    Output("benchmarks.faults", "--json", "x.json"),
    Output("benchmarks.power_calibration", "--out", "x.md", (), ("--draws", "20")),
]
ROWS = [pytest.param(one, id=f"{one.module} {one.option} {one.place}") for one in OUTPUTS]
MODULES = [
    path
    for package in ("ablate", "analysis", "benchmarks")
    for path in sorted((ROOT / package).glob("*.py"))
    if not path.stem.startswith("__")
]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    declare(tmp_path / "r", study_block([claim("c", "greater")], seeds=[0, 1]))
    make_study(
        tmp_path / "r", {"a": Arm(seeds=(0, 1), ranked=True), "b": Arm({"instructed": 1.0}, seeds=(0, 1), ranked=True)}
    )
    texts = {
        "s.csv": GOOD,
        "clusters.csv": clustered("cluster.kind", *"xxy"),
        "a.run": "q Q0 d 1 2.0 x\n",
        "a.qrels": "q 0 d 1\n",
        "items.jsonl": "".join(json.dumps({**ITEM, "id": name}) + "\n" for name in ("i", "j")),
        "judged.jsonl": "".join(
            json.dumps({"item_id": name, "rater": "ann", "kind": "human", **ANSWERS}) + "\n" for name in ("i", "j")
        ),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    make_sample(tmp_path / "sample")
    return tmp_path


def call(module: str, words: Sequence[str], folder: Path) -> int:
    """Run a command and return its exit code, also where argparse itself ends it."""
    try:
        return int(importlib.import_module(module).main([word.replace("{dir}", str(folder)) for word in words]) or 0)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("one", [row for row, one in zip(ROWS, OUTPUTS, strict=True) if one.given is not None])
def test_the_folders_on_the_way_are_made(one: Output, inputs: Path) -> None:
    place = inputs / "new" / "er" / one.place
    assert one.given is not None
    code = call(one.module, [*one.given, one.option, str(place)], inputs)
    assert code == 0 or one.module.startswith("benchmarks.")  # a promise is broken or kept: both are told in the file
    files = [place / name for name in one.written] or [place]
    assert all(path.is_file() and path.stat().st_size for path in files)
    assert sorted(path for path in (inputs / "new").rglob("*") if path.is_file()) == sorted(files)


UNREADABLE = {
    "ablate.export": ("nothing",),
    "ablate.synthesize": ("paraphrase", "--model", "m", "source.path=none"),
    "analysis.power": (),
    "benchmarks.audit_coverage": (),
    "benchmarks.beside": (),
    "benchmarks.calibration": (),
    "benchmarks.growth": (),
    "analysis.import_wandb": ("none", "--arm", "a", "--seed", "s", "--measure", "m=m"),
    "benchmarks.faults": (),
    "analysis.inversion_audit": ("--items", "none", "--judgments", "none"),
    "analysis.score": ("--run", "none", "--qrels", "none"),
    "ablate.testbed": ("none",),
    "analysis.annotate": ("none",),
    "analysis.sample_for_audit": ("--items", "none"),
    "analysis.significance": ("--scores", "none.csv"),
}
"""What a command is called with beside the place: nothing of it is there, so that work would end in another mistake."""


@pytest.mark.parametrize("one", ROWS)
@pytest.mark.parametrize("kind", ["below a file", "another kind", "nowhere to write"])
def test_a_bad_place_is_refused_before_any_work(
    one: Output, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    place = {"below a file": file / "new" / one.place, "nowhere to write": Path("/proc/new") / one.place}.get(kind)
    if place is None:
        place = file if one.written else tmp_path
    elif kind == "nowhere to write" and not Path("/proc/self").exists():
        pytest.skip("no file system here that nobody can write to")
    if kind == "another kind" and one.module == "ablate.export":
        return  # whatever is there is refused by the export itself
    words = UNREADABLE.get(one.module, ("s", "--results", str(tmp_path / "none")))
    assert call(one.module, [*words, one.option, str(place)], tmp_path) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "error: argument " in said[-1] and one.option in said[-1] and repr(str(place)) in said[-1]
    assert len(said) == 1 or one.module.startswith("benchmarks.")
    assert sorted(tmp_path.iterdir()) == [file] and file.read_text() == "x"


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    words = ["s", "--results", str(tmp_path), "--json", str(tmp_path / "pipe")]
    assert call("analysis.budgets", words, tmp_path) == 2
    assert "is no plain file, and would be replaced by one; name another" in capsys.readouterr().err


def is_output(kind: object) -> bool:
    return getattr(kind, "__name__", str(kind)) in ("output_file", "output_folder", "output_place")


def output_options(module: str, tree: ast.Module) -> set[str]:
    """Return the options of a command that name a place, from its parser, or from its source where main makes it."""
    parser = getattr(importlib.import_module(module), "parser", None)
    if parser is not None:
        return {action.option_strings[0] for action in parser()._actions if is_output(action.type)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [node for node in calls if any(is_output(ast.unparse(key.value)) for key in node.keywords)]
    return {str(word.value) for node in named for word in node.args if isinstance(word, ast.Constant)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_command_that_writes_is_in_the_table(path: Path) -> None:
    module, tree = f"{path.parent.name}.{path.stem}", ast.parse(path.read_text(encoding="utf-8"))
    listed = {one.option for one in OUTPUTS if one.module == module}
    assert output_options(module, tree) == listed
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert listed or not {"write_text", "write_parquet"} & calls
    bare = {name for name in calls if name.rpartition(".")[2] == "write_text"} - {"write_text"}
    assert not bare or module in ("ablate.export", "benchmarks.faults")  # into a draft, and into a folder of its own

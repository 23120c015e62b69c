"""A lab's own folder: a wheel of this project in an environment of its own, own files first, and a plugin in Python."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, run_config

from ablate.engine.prepare import prepare
from ablate.store.provenance import code_digest

TINY = (
    "model=tiny",
    "source.documents=600",
    "evaluation.sets=[test]",
    "budget.limit=16",
    "train.batch_size=8",
    "tracker=none",
    "runtime.dev_set=null",
    "runtime.threads=1",
    "runtime.progress=false",
)
PLUGIN = '''
from dataclasses import dataclass
from typing import Literal

from ablate.recipe.schema import Location
from ablate.records import EvaluationQuery, EvaluationSet, Passage, SourceRow


@dataclass(frozen=True, kw_only=True)
class NotesSource:
    """Notes of the lab."""

    kind: Literal["notes"]
    path: Location
    """A file of names, one a line."""
    rows: Literal["complete", "all"]

    def open(self, sets):
        return Notes(open(self.path, encoding="utf-8").read().split())


class Notes:
    evaluation_names = ("test",)

    def __init__(self, names):
        self.names, self.revision = names, "-".join(names)

    def rows(self):
        for name in self.names:
            yield SourceRow(
                row_id=name, query_id=name, query=f"notes on {name}", instruction=f"only long notes on {name}",
                reversed_instruction=f"only short notes on {name}", paraphrase="", positives=(f"{name}-long",),
                hard_negatives=(f"{name}-other",), instruction_negatives=(f"{name}-short",),
            )

    def generated(self, doc_id):
        return False

    def style_of(self, doc_id):
        return None

    def passages(self, doc_ids):
        for doc_id in doc_ids:
            yield Passage(doc_id, f"a note called {doc_id.replace('-', ' ')}")

    def documents(self):
        return self.passages(f"{name}-{kind}" for name in self.names for kind in ("long", "short", "other"))

    def evaluation_set(self, name):
        queries = [EvaluationQuery(n, n, f"notes on {n}", "", "plain", "plain") for n in self.names]
        qrels = {n: {f"{n}-long": 1, f"{n}-short": 1} for n in self.names}
        return EvaluationSet(f"notes/{name}", tuple(self.documents()), tuple(queries), qrels, {}, ())


def first(grades, doc_ids):
    """Whether the first document is relevant."""
    return float(grades.get(doc_ids[0], 0) > 0)
'''
ENTRIES = """\
[ablate.sources]
notes = lab_notes:NotesSource
[ablate.measures]
success@1 = lab_notes:first
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and the plugin `lab-notes` 0.3; other packages are those of here."""
    place = tmp_path_factory.mktemp("installed")
    for name in ("ablate", "analysis", "hydra_plugins", "conf", "sweeps"):
        shutil.copytree(ROOT / name, place / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "code")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    called("wheel", *pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", place, place / "code")
    (wheel,) = place.glob("ablate-*.whl")
    called("venv", sys.executable, "-m", "venv", "--without-pip", place / "venv")
    python = place / "venv" / "bin" / "python"
    called("install", *pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    (site,) = (place / "venv").glob("lib/python*/site-packages")
    torch = importlib.util.find_spec("torch")
    assert torch is not None and torch.origin is not None
    (site / "others.pth").write_text(str(Path(torch.origin).parent.parent))
    (site / "lab_notes.py").write_text(PLUGIN)
    (site / "lab_notes-0.3.dist-info").mkdir()
    (site / "lab_notes-0.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-notes\nVersion: 0.3\n")
    (site / "lab_notes-0.3.dist-info" / "entry_points.txt").write_text(ENTRIES)
    return python


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with a repository, an arm, a source and a model of its own."""
    files = {
        "conf/experiment/half_reversed.yaml": """
            # @package _global_
            defaults: [dual_view]
            factors: {reversed_views: 0.5}
            runtime: {label: half_reversed, baseline: instruction_negatives}
            """,
        "conf/source/notes.yaml": """
            # @package _global_
            source: {kind: notes, path: names.txt, rows: complete}
            evaluation: {sets: [test]}
            """,
        "names.txt": "ants bees cats dogs eels fish goats hens ibex jays",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    repository(tmp_path)
    return tmp_path


def called(what: str, *command: Any, cwd: Path | None = None) -> str:
    """Return what a command printed, both streams."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=300, env=variables)
    assert done.returncode == 0, f"{what}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def repository(folder: Path) -> None:
    """Make a folder a repository with a commit."""
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b"]
    called("git", *git, "init", "--quiet")
    called("git", *git, "commit", "--quiet", "--allow-empty", "--message", "x")


def manifests(results: Path, folder: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((results / folder).glob("*/manifest.json"))]


def test_a_shipped_arm_in_an_arbitrary_folder(python: Path, tmp_path: Path) -> None:
    """Ids and code are those of the checkout; what is recorded is the release and no repository's commit."""
    repository(python.parents[2])  # the environment lies inside somebody's repository
    said = called("run", python, "-m", "ablate.run", "+experiment=dual_view", *TINY, cwd=tmp_path)
    assert "note:" not in said
    ids = prepare(run_config("+experiment=dual_view", *TINY)).identity
    assert [path.name for path in (tmp_path / "results" / "runs").iterdir()] == [ids.train_id]
    assert ids.eval_id in [manifest["id"] for manifest in manifests(tmp_path / "results", "evals")]
    (trained,) = manifests(tmp_path / "results", "runs")
    code = {"commit": None, "dirty": None, "changed": None, "release": "0.1.0", "code": code_digest()}
    assert trained["git"] == code and trained["packages"]["lab-notes"] == "0.3"


def test_own_arms_and_studies(python: Path, lab: Path) -> None:
    """An own arm is listed, checked, run in an own study and analysed; an own file that hides a shipped one is told."""
    (lab / "conf" / "model").mkdir()
    tiny = (ROOT / "conf" / "model" / "tiny.yaml").read_text()
    (lab / "conf" / "model" / "tiny.yaml").write_text(tiny.replace("hidden: 32", "hidden: 16"))
    assert tiny != (lab / "conf" / "model" / "tiny.yaml").read_text()
    (lab / "conf" / "config.yaml").write_text("another: program\n")
    said = called("help", python, "-m", "ablate.run", "--help", cwd=lab)
    assert " half_reversed," in said and "dual_view," in said
    init = ("-m", "ablate.study", "init", "own_question", "--arms", "instruction_negatives", "half_reversed")
    called("init", python, *init, cwd=lab)
    study = lab / "sweeps" / "own_question.yaml"
    study.write_text(study.read_text().replace("[100, 101, 102, 103, 104]", "[0]").replace("looks: [5]", "looks: []"))
    words = ("+sweeps=own_question", *TINY)
    called("check", python, "-m", "ablate.check", *words, cwd=lab)
    said = called("study", python, "-m", "ablate.run", "-m", *words, cwd=lab)
    assert said.count("note: conf/model/tiny.yaml of this folder is read, not the shipped file of that name") == 1
    assert said.count("note: conf/config.yaml of this folder is not read") == 1
    for trained in manifests(lab / "results", "runs"):
        assert trained["recipe"]["model"]["tiny"]["hidden"] == 16 and trained["git"]["release"] == "0.1.0"
    said = called("claims", python, "-m", "analysis.claims", "own_question", cwd=lab)
    assert "half_reversed - instruction_negatives" in said


def test_own_source_and_measure(python: Path, lab: Path) -> None:
    """Distribution and version are in the ids and the manifest; keys and rows of a plugin are checked like ours."""
    words = [word for word in TINY if not word.startswith(("source.", "evaluation.", "budget."))]
    words += ["source=notes", "+experiment=half_reversed", "budget.limit=8", "budget.negatives_per_group=1"]
    run = (python, "-m", "ablate.run", *words)
    said = called("run", *run, "evaluation.measures=[success@1,recall@2]", cwd=lab)
    assert "success@1" in said and "recall@2" in said
    (mix,) = manifests(lab / "results", "mixes")
    assert mix["recipe"]["source"] == {
        "kind": "notes",
        "rows": "complete",
        "revision": "lab-notes 0.3 ants-bees-cats-dogs-eels-fish-goats-hens-ibex-jays",
    }
    scores = manifests(lab / "results", "evals")
    measured = [manifest["recipe"]["evaluation"]["measures"] for manifest in scores]
    assert measured == [{"success@1": "lab-notes 0.3", "recall@2": ""}] * 2
    assert {manifest["packages"]["lab-notes"] for manifest in scores} == {"0.3"}

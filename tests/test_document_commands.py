"""Every command in the documents is issued as it stands there: planned, or with a tiny model on tiny data.

Each page has a folder of its own with results of a study, a data folder and items of an audit, all under the names that
documents use. What stands for a reader's own (`STUDY`, `DIR`) is in `STANDS_FOR`. What needs a network, another
machine, a person or long is in `ONLY_READ` with the reason: it is read by the parser of its command, and not run.
"""

from __future__ import annotations

import csv
import functools
import glob
import importlib
import io
import json
import re
import shutil
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ROOT
from documents import LOG, NAMES, Command, commands, text_of
from synthetic_study import Arm, make_study

from analysis.audit.sampling import QUESTION_COLUMNS

TUTORIAL = "docs/tutorial.md"
"""Its data are so small that its runs are made."""
PAGES = [name for name in NAMES if name != LOG]
PLAN = "runtime.plan_only=true"
TINY = ("model=tiny", "source.documents=600", "budget.limit=16", "train.batch_size=8", "tracker=none")

STANDS_FOR = {
    "source=tevatron source.path=DIR": "source=tevatron source.path=rows.jsonl",
    "source.path=DIR/movies": "source.path=movies",
    "source=films_written source.path=DIR": "source=films_written source.path=movies",
    "source.path=DIR": "source.path=recipes",
    "ablate.check DIR": "ablate.check recipes",
    "/data/my set, v2": "my set, v2",
    "+sweeps=NAME": "+sweeps=smoke",
    "init NAME": "init mine",
    "analysis.costs NAME": "analysis.costs dual_view",
    "analysis.dose_response STUDY": "analysis.dose_response label_noise",
    "noise/label_noise_0.2:0": "dual_view/dual_view:0",
    "inversion_audit MIX": "inversion_audit dual_view/dual_view:0",
    "analysis.budgets audited --baseline audited_matched": "analysis.budgets dual_view",
    "analysis.significance audited --baseline audited_matched": "analysis.significance dual_view --baseline dual_view",
    "[STUDY]": "dual_view",
    "STUDY": "dual_view",
    "--seed N": "--seed 1",
    "source.seed=N": "source.seed=1",
    "--run F --qrels F [--groups F]": "--run run.trec --qrels recipes/qrels/test.tsv",
}
"""What a reader puts a name of their own for -> what is there in these tests."""

ONLY_READ = {
    r"python -m analysis\.wandb_sync ": "it sends runs to W&B; tests/test_wandb_sync.py has a server",
    r"python -m analysis\.wandb_report ": "it needs an extra; tests/test_wandb_report.py",
    r"python -m ablate\.synthesize .*--model (NAME|OTHER)": "it asks a model; tests/test_synthesis_endpoint.py",
    r"python -m ablate\.world_checks ": "seconds for one document; tests/test_world_checks.py",
    r"python -m ablate\.run .*\+sweeps=tune .*hydra/launcher=": "processes and machines; tests/test_tuning_run.py",
    r"python -m analysis\.annotate .*--adjudicate ": "it waits for a person; tests/test_annotate_page.py",
    r"python -m ablate\.reference ": "tests/test_documents.py writes what it writes",
    r"python -m benchmarks\.": "minutes to hours, and no part of the product",
    r"python -m analysis\.inversion_audit MIX --judgments": "answers of people to its pairs; tests/test_twins.py",
    r"make ": "it sets up environments",
    r"pip (install|wheel) ": "it needs a package index",
    r"python -m analysis\.import_wandb ": "runs of W&B are needed; tests/test_import_wandb.py makes some",
    r"torchrun ": "several processes; tests/test_distributed.py",
    r"sbatch ": "it needs SLURM",
    r"export |source ": "it sets what later commands of a shell read",
}
"""Commands that are not run -> why; what is left of them is checked by `read`."""


def posed(command: Command) -> str:
    """Return the text of a command with our names in the place of a reader's."""
    text = command.text
    for stands, name in STANDS_FOR.items():
        text = text.replace(stands, name)
    return text


def test_what_is_only_read_and_what_stands_for_names_is_in_the_documents() -> None:
    found = [command.text for name in PAGES for command in commands(name, text_of(name))]
    assert [pattern for pattern in ONLY_READ if not any(re.match(pattern, text) for text in found)] == []
    assert [name for name in STANDS_FOR if not any(name in text for text in found)] == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that each page gets a copy of."""
    folder = tmp_path_factory.mktemp("documents")
    with pytest.MonkeyPatch.context() as patch:
        at_home(patch, folder)
        script = next(command for command in commands(TUTORIAL, text_of(TUTORIAL)) if command.is_script)
        run_script(script.text)
        shutil.copytree("recipes", "my set, v2")
        write_films(Path("movies"))
        Path("run.trec").write_text("salad Q0 d9 1 2.0 x\nsalad Q0 d10 2 1.0 x\npasta Q0 d12 1 1.0 x\n")
        for words in (
            ["-m", "+sweeps=smoke", "runtime.study=dual_view", "runtime.threads=1"],
            ["+experiment=dual_view", *TINY, "evaluation.sets=[test]", "runtime.dev_set=null", "runtime.threads=1"],
        ):
            assert issued("ablate.run", words) == (0, "")
        make_study(Path("results"), noisy_arms(), "label_noise")
        for results in ("results", "one_thread"):
            make_study(Path(results), {"dual_view": Arm({"reversed_views": 0.9})}, "noise_floor")
        ranked = next(Path("results").glob("evals/*/rankings/world_test.plain.trec.gz"))
        shutil.copy(ranked, "a.trec.gz")
        words = ["--engine", "simulated", "--model", "careless", "--limit", "170", "--out", "reversed"]
        assert issued("ablate.synthesize", ["reverse", "--replace", *words]) == (0, "")
        words = [
            "--engine",
            "simulated",
            "--model",
            "adversarial",
            "--items",
            "reversed/items.jsonl",
            "--out",
            "judged",
        ]
        assert issued("ablate.synthesize", ["judge", *words, "--gold", "reversed/gold.jsonl"]) == (0, "")
        shutil.copy("reversed/items.jsonl", "items.jsonl")
        shutil.copy("judged/judgments.jsonl", "judge.jsonl")
        Path("reversed").rename("3")
        Path("judged").rename("4")
    return folder


def noisy_arms() -> dict[str, Arm]:
    """Return a baseline and arms whose twins have known shares of wrong labels."""
    arms = {"instruction_negatives": Arm()}
    for share in (0.0, 0.2, 0.5):
        noise = {"label_noise": share} if share else {}
        arms[f"label_noise_{share}"] = Arm({"reversed_views": 1.0, **noise})
    return arms


def write_films(folder: Path) -> None:
    """Write films with the fields that `source=films_written` reads, and nothing else."""
    folder.mkdir()
    genres = ("Drama", "Comedy", "War", "Crime")
    lines = [
        {
            "_id": f"f{number}",
            "title": f"Film {number}",
            "text": f"A film of {1950 + number % 60}, directed by Ann Lee, about a captain and number {number}.",
            "metadata": {
                "year": 1950 + number % 60,
                "cast": [f"Actor {number % 97}", f"Player {number % 89}"],
                "genres": [genres[number % 4], genres[number % 3]],
            },
        }
        for number in range(3000)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def at_home(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let commands run in a folder, whose own `sweeps/` they find beside the shipped ones."""
    patch.chdir(folder)
    patch.setattr("os.fsync", lambda file: None)


@pytest.fixture
def page(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of one page, in which commands run."""
    folder = shutil.copytree(made, tmp_path / "page")
    at_home(monkeypatch, folder)
    yield folder


def issued(module: str, words: Sequence[str]) -> tuple[int, str]:
    """Issue `python -m MODULE WORDS` in this process; return its exit code, and what it said of a mistake."""
    place = f"{module}.__main__" if (ROOT / Path(*module.split(".")) / "__main__.py").is_file() else module
    given, output, faults = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = [place, *words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", output)
        patch.setattr("sys.stderr", faults)
        try:
            main = importlib.import_module(place).main
            code = main() if module == "ablate.run" else main(list(words))
        except SystemExit as end:
            code = end.code
        except Exception:
            return 3, traceback.format_exc()
        finally:
            sys.argv = given
    said = [line for line in faults.getvalue().splitlines() if line.startswith("error")]
    return int(code or 0), "\n".join(said)


def run_script(text: str) -> None:
    """Let a shell run a script; any command of it that fails is a failure."""
    subprocess.run(["bash", "-euc", text], check=True)


def run(text: str, *, plan: bool = True) -> str:
    """Issue a command; return what is wrong with it, or nothing. `plan`: runs are shown and not made."""
    program, dash, module, *words = Command("", 0, text).words
    if (program, dash) != ("python", "-m"):
        return f"{program} is no program of these documents"
    words = [place for word in words for place in (sorted(glob.glob(word)) if "*" in word else [word])]
    if module == "ablate.run":
        if any(word.startswith("+sweeps=tune") for word in words):
            one_arm = ["hydra.sweeper.arms=[dual_view]"] if words[1] == "+sweeps=tune_each_arm" else []
            words += [*TINY, "hydra.sweeper.n_trials=1", *one_arm]
        elif plan and "--help" not in words:
            return planned(*(word for word in words if word != PLAN))
    elif module == "analysis.annotate":
        return annotated(words[0], words[2])
    code, said = issued(module, words)
    return f"exit code {code}: {said}" if code not in (0, 1) or said else ""


@functools.cache
def planned(*words: str) -> str:
    """Show what a command of `ablate.run` would make, once for all pages; return what is wrong with it, or nothing."""
    code, said = issued("ablate.run", [*words, PLAN])
    return f"exit code {code}: {said}" if code or said else ""


def annotated(sample: str, rater: str) -> str:
    """Answer all sheets of a sample by a spreadsheet, in the place of a person at the page."""
    code, said = issued("analysis.annotate", [sample, "--rater", rater, "--to-csv", "sheets.csv"])
    if code:
        return said
    with Path("sheets.csv").open(encoding="utf-8-sig", newline="") as file:
        sheets = list(csv.DictReader(file))
    with Path("sheets.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(sheets[0]))
        writer.writeheader()
        writer.writerows(
            {**one, **dict(zip(QUESTION_COLUMNS, ["yes", "no", "no", "yes"], strict=True))} for one in sheets
        )
    return issued("analysis.annotate", [sample, "--rater", rater, "--from-csv", "sheets.csv"])[1]


def read(text: str) -> str:
    """Let the parser of a command read it without running it; return what is wrong, or nothing."""
    program, *words = Command("", 0, text).words
    if program == "make":
        return "" if re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M) else f"no target {words[0]}"
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = [name for word in words for names in re.findall(r"^\.\[(.+)\]$", word) for name in names.split(",")]
        return "".join(f"no extra {name}" for name in named if name not in extras)
    if program == "torchrun":
        return run(f"python {' '.join(words[words.index('-m') :])}")
    if program == "sbatch":
        return run(words[words.index("--wrap") + 1])
    if program in ("export", "source"):
        return "" if len(words) == 1 else "one word stands behind it"
    module, words = words[1], words[2:]
    if module == "ablate.run":
        return composed([word for word in words if word != "-m"])
    if module == "ablate.world_checks":
        return composed(words)
    if module.startswith("benchmarks."):
        code, said = issued(module, ["--help"])
        options = {word for word in words if word.startswith("--")}
        source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
        return said or "".join(f"no option {option}" for option in options if f'"{option}"' not in source) or code * "!"
    parser = importlib.import_module(module).parser()
    try:
        parser.parse_intermixed_args(words) if module == "ablate.synthesize" else parser.parse_args(words)
    except Exception as error:
        return str(error)
    return ""


def composed(words: Sequence[str]) -> str:
    """Compose a configuration with Hydra's own part; return what is wrong with its groups and keys."""
    from hydra import compose, initialize_config_dir

    from ablate.project import CONF

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", list(words), return_hydra_config=True)
    except Exception as error:
        return str(error)
    return ""


def wrong(command: Command) -> str:
    """Return what is wrong with a command of a document, or nothing."""
    if command.is_script:
        run_script(command.text)
        return ""
    if any(re.match(pattern, command.text) for pattern in ONLY_READ):
        return read(posed(command))
    return run(posed(command), plan=command.document != TUTORIAL)


@pytest.mark.parametrize("name", [name for name in PAGES if commands(name, text_of(name))])
def test_commands_do_what_the_page_says(name: str, page: Path) -> None:
    mistakes = [f"{command}\n    {said}" for command in commands(name, text_of(name)) if (said := wrong(command))]
    assert not mistakes, "\n".join(mistakes)


@pytest.mark.parametrize(
    "text",
    [
        "python -m analysis.clams dual_view",
        "python -m analysis.wandb_sync dual_view --jsno x",
        "python -m ablate.run +experiment=dual_veiw",
        "torchrun --nproc-per-node 2 -m ablate.run +experiment=dual_veiw",
        "make stdy",
        'pip install -e ".[figurs]"',
    ],
)
def test_a_wrong_command_is_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert wrong(Command("README.md", 1, text))

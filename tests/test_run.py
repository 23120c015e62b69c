"""The main job end to end, as a person runs it: a process, its output, its files; killed, repeated, given bad input."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import pytest
from conftest import ROOT, data_folder, override

from ablate.evaluation.storage import read_scores
from ablate.store.results import ResultStore
from ablate.tracking import ledger_steps, read_ledger

SMALL = ("model=tiny", "train.batch_size=8", "tracker=none", "runtime.dev_set=null")
TINY = (*SMALL, "source.documents=600", "budget.limit=96")


def command(results: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "ablate.run", *overrides, override("runtime.results", results), "runtime.threads=1"]


def run(results: Path, *overrides: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command(results, *overrides), capture_output=True, text=True, cwd=ROOT, timeout=300, **options
    )


def contents(results: Path) -> dict[str, str]:
    """Return the digest of every file that stages wrote, but for those that hold times."""
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "ledger.jsonl") and path.parent.name != "locks"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one uninterrupted tiny run."""
    results = tmp_path_factory.mktemp("finished")
    done = run(results, "+experiment=dual_view", *TINY)
    assert done.returncode == 0, done.stderr
    return results


def test_a_budget_that_is_not_the_baselines_is_marked_before_the_card(tmp_path: Path) -> None:
    """joint has twice the rows of joint_matched under the same limit."""
    mixes = (*TINY, "runtime.until=mix")
    said = run(tmp_path, "+experiment=joint_matched", *mixes).stdout
    assert "budget: not compared with instruction_negatives, whose mix of seed 0 is not built here" in said
    said = run(tmp_path, "+experiment=joint", *mixes).stdout
    assert "budget: UNMATCHED with joint_matched: 192 against 96 groups" in said
    assert said.index("UNMATCHED") < said.index("mix (96 groups")


def test_a_run_says_what_it_is_and_leaves_complete_stages(finished: Path) -> None:
    store = ResultStore(finished)
    mixes, runs = list(store.manifests("mix")), list(store.manifests("train"))
    evaluations = list(store.manifests("evaluation"))
    assert (len(mixes), len(runs), len(evaluations)) == (1, 1, 2)
    assert mixes[0].counts["groups"] == 96 and mixes[0].labels == ("single_runs/dual_view",)
    assert runs[0].parents == (mixes[0].id,) and runs[0].counts["steps"] == 12
    assert {manifest.labels for manifest in evaluations} == {("single_runs/dual_view",), ("single_runs/untouched",)}
    for manifest in (*mixes, *runs, *evaluations):
        assert store.damaged(manifest) == []
    assert mixes[0].hardware.keys() == {"system", "processor", "cores"}
    assert runs[0].hardware["processes"] == 1
    for manifest in (*runs, *evaluations):
        assert manifest.hardware["threads"] == 1 and {"kernels", "mkldnn", "settings"} <= manifest.hardware.keys()
    folder = store.folder("train", runs[0].id)
    assert not (folder / "checkpoints").exists()
    assert sorted(ledger_steps(folder / "ledger.jsonl")) == list(range(1, 13))
    assert json.loads((folder / "config.json").read_text())["recipe"]["factors"]["reversed_views"] == 1.0
    assert not [path for path in finished.iterdir() if path.name not in ("mixes", "runs", "evals", "locks", "cache")]


def test_scores_have_one_record_per_query_condition_and_measure(finished: Path) -> None:
    store = ResultStore(finished)
    labels = ("single_runs/dual_view",)
    manifest = next(manifest for manifest in store.manifests("evaluation") if manifest.labels == labels)
    scores = read_scores(store.folder("evaluation", manifest.id) / "scores.parquet")
    assert len({score[:5] for score in scores}) == len(scores) == manifest.counts["scores"]
    found = {(score.dataset, score.condition, score.measure) for score in scores}
    for dataset in ("world/test", "world/heldout"):
        for condition in ("plain", "original", "changed", "reversed"):
            assert {(dataset, condition, measure) for measure in ("nDCG@10", "RR@10", "AP@1000")} <= found
        assert {(dataset, "changed", "p-MRR"), (dataset, "reversed", "p-MRR")} <= found
    rankings = sorted(path.name for path in (store.folder("evaluation", manifest.id) / "rankings").iterdir())
    assert len(rankings) == 8 and rankings[0] == "world_heldout.changed.trec.gz"


def test_the_same_command_again_does_nothing_and_shows_the_same_table(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    done = run(finished, "+experiment=dual_view", *TINY)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before
    assert "differs from instruction_negatives in factors.reversed_views: 0.0 -> 1.0" in done.stdout
    assert "96 groups, 192 pairs, 48 base rows" in done.stdout
    assert re.search(
        r"\n  negatives per row \d+\.\d, right labels 1\.00, usual side asked 0\.50, positives in style a 0\.",
        done.stdout,
    )
    assert (
        "  label told by one of them alone (balanced accuracy, 0.50 is chance): passage 0.50, side 0.50" in done.stdout
    )
    for words in ("world/test", "world/heldout", "p-MRR", "satisfying over violating", str(finished)):
        assert words in done.stdout
    assert done.stderr == ""


def test_the_same_seed_gives_the_same_bits(finished: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "+experiment=dual_view", *TINY).returncode == 0
    assert contents(tmp_path) == contents(finished)


def test_a_measurement_in_bf16_has_an_id_of_its_own_and_nearly_the_scores_of_fp32(
    finished: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished, results)
    done = run(results, "+experiment=dual_view", *TINY, "evaluation.precision=bf16", "runtime.packed=true")
    assert done.returncode == 0, done.stderr
    store = ResultStore(results)
    assert len(list(store.manifests("train"))) == 1
    measured = {}
    for manifest in store.manifests("evaluation"):
        if manifest.labels == ("single_runs/dual_view",):
            scores = read_scores(store.folder("evaluation", manifest.id) / "scores.parquet")
            precision = manifest.recipe["evaluation"].get("precision", "fp32")
            measured[precision] = [score.value for score in scores if score.measure == "nDCG@10"]
            assert manifest.hardware["packed"] is (precision == "bf16")
    assert measured.keys() == {"fp32", "bf16"} and measured["fp32"] != measured["bf16"]
    assert fmean(measured["bf16"]) == pytest.approx(fmean(measured["fp32"]), abs=0.02)


def test_a_killed_training_goes_on_to_the_same_bits(finished: Path, tmp_path: Path) -> None:
    overrides = ("+experiment=dual_view", *TINY, "runtime.checkpoint_every=4")
    process = subprocess.Popen(
        command(tmp_path, *overrides),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    train_id = next(ResultStore(finished).manifests("train")).id
    ledger = tmp_path / "runs" / train_id / "ledger.jsonl"
    deadline = time.monotonic() + 120
    while not (ledger.is_file() and b'"step":6' in ledger.read_bytes().replace(b" ", b"")):
        assert time.monotonic() < deadline and process.poll() is None, "the run did not get to its sixth step"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "runs" / train_id / "manifest.json").exists()
    assert list((tmp_path / "runs" / train_id / "checkpoints").iterdir())
    done = run(tmp_path, *overrides)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(finished)
    assert sorted(ledger_steps(ledger)) == list(range(1, 13))
    kinds = [record.get("kind") for record in read_ledger(ledger)]
    assert kinds.count("start") == 2, kinds


def test_a_full_disk_is_one_line_and_the_same_command_finishes_later(finished: Path, tmp_path: Path) -> None:
    overrides = ("+experiment=dual_view", *TINY)

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = run(tmp_path, *overrides, preexec_fn=small_files)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1, done.stderr
    store = ResultStore(tmp_path)
    assert not list(store.manifests("train"))
    assert run(tmp_path, *overrides).returncode == 0
    assert contents(tmp_path) == contents(finished)


def test_minilm_trains_and_its_loss_falls(tmp_path: Path) -> None:
    """The main job's command on a reduced budget, with its default tracker: W&B offline."""
    done = run(
        tmp_path,
        "+experiment=dual_view",
        "source.documents=600",
        "budget.limit=16",
        "evaluation.sets=[test]",
        "runtime.dev_set=null",
        "train.batch_size=16",
        "train.epochs=4",
    )
    assert done.returncode == 0, done.stderr
    store = ResultStore(tmp_path)
    ledger = store.folder("train", next(store.manifests("train")).id) / "ledger.jsonl"
    losses = [values["loss"] for _, values in sorted(ledger_steps(ledger).items())]
    assert len(losses) == 4 and losses[-1] < losses[0]  # the same batch, seen for the fourth time
    assert list((tmp_path / "wandb").rglob("*.wandb"))


def test_every_arm_runs(tmp_path: Path) -> None:
    arms = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    untrained = {"bm25", "bm25_instruction", "random_ranker", "untouched"}
    audited = {arm for arm in arms if arm.startswith("audited_")}  # they need judgments: tests/test_audited.py
    arms -= audited
    done = run(tmp_path, "-m", f"+experiment={','.join(sorted(arms))}", *TINY, "budget.limit=16")
    assert done.returncode == 0 and len(audited) == 3, done.stderr
    found = {
        kind: sorted(
            re.sub(r"_[.0-9]+$", "", label.split("/")[1])
            for manifest in ResultStore(tmp_path).manifests(kind)
            for label in manifest.labels
        )
        for kind in ("mix", "train", "evaluation")
    }
    trained = sorted(arms - untrained)
    assert found == {"mix": trained, "train": trained, "evaluation": sorted(arms)}


def test_in_a_multirun_a_mistake_is_one_line_and_the_other_runs_go_on(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "-m",
        "+experiment=dual_view",
        *SMALL,
        "source.documents=600",
        "budget.limit=100000,16,0",
        "runtime.until=mix",
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("incoherent: dual_view limit=0 seed 0: budget.limit=0 is out of range")
    assert lines[2].startswith("dual_view limit=100000 seed 0: budget.limit=100000 groups is more than the source")
    assert lines[-2].startswith("failed: dual_view limit=100000 seed 0: budget.limit=100000")
    assert lines[-3] == "1 of 2 cells done, 0 running here, 0 elsewhere, 1 failed" and "Traceback" not in done.stderr
    assert [manifest.counts["groups"] for manifest in ResultStore(tmp_path).manifests("mix")] == [16]


def test_what_differs_is_said_for_levels_given_on_the_command_line(tmp_path: Path) -> None:
    done = run(tmp_path, "+experiment=label_noise", "factors.label_noise=0.5", *TINY, "runtime.until=mix")
    assert done.returncode == 0, done.stderr
    assert "differs from dual_view in factors.label_noise: 0.0 -> 0.5" in done.stdout
    assert not list(ResultStore(tmp_path).manifests("train"))


def test_a_beir_folder_trains_and_is_measured_on_its_own_split(tmp_path: Path) -> None:
    folder = data_folder("condaqa_pairs")
    done = run(
        tmp_path,
        "+experiment=dual_view",
        "source=beir",
        override("source.path", folder),
        "evaluation.sets=[train]",
        *SMALL,
        "budget.limit=32",
    )
    assert done.returncode == 0, done.stderr
    assert "condaqa_pairs/train" in done.stdout
    assert "warning: condaqa_pairs/train: these are the queries that were trained on" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("+experiment=dual_vew",), "did you mean dual_view?"),
        (("budget.limit=100000",), "budget.limit=100000 groups is more than the source gives"),
        (("runtime.device=cuda",), "finds no CUDA device"),
    ],
)
def test_bad_input_is_refused_in_words(tmp_path: Path, overrides: tuple[str, ...], words: str) -> None:
    if overrides == ("runtime.device=cuda",):
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
    done = run(tmp_path, *SMALL, *overrides)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.rglob("manifest.json"))


def test_help_has_an_example(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "python -m ablate.run +experiment=dual_view" in done.stdout and "experiment: " in done.stdout

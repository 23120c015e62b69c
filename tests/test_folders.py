"""Folders of a person from the command to the analysis: the name of a data set, and what stands above its scores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bad_inputs.sources import CORPUS, QUERIES, folder_of
from conftest import override, run_config

from ablate.engine.prepare import prepare
from ablate.run import execute
from ablate.store.results import ResultStore
from analysis.external.imported import study_beds
from analysis.study.evidence import Evidence


def overrides(folder: Path, results: Path, study: str, *more: str) -> tuple[str, ...]:
    usual = ("source=beir", "model=tiny", "tracker=none", f"runtime.study={study}", *more)
    return (*usual, override("source.path", str(folder)), override("runtime.results", str(results)))


def test_a_data_set_has_the_name_of_the_folder_that_the_command_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(tmp_path)
    (tmp_path / "set").rename(tmp_path / "alpha")
    shutil.copytree(tmp_path / "alpha", tmp_path / "beta")
    store = ResultStore(tmp_path / "results")
    for folder, study, arm in (
        ("alpha", "one", "bm25"),
        ("beta", "two", "bm25"),
        ("beta", "two", "bm25_instruction"),
        ("alpha", "two", "bm25"),
    ):
        execute(run_config(f"+experiment={arm}", *overrides(tmp_path / folder, store.root, study)))
        told = capsys.readouterr().out
        assert f"\n{folder}/dev\n" in told and {"alpha": "beta", "beta": "alpha"}[folder] + "/dev" not in told
        if study == "two" and arm == "bm25_instruction":
            assert set(Evidence(store.root, "two").long_table()["dataset"].to_pylist()) == {"beta/dev"}
            assert list(study_beds(store, "two").sets) == ["beta/dev"]
    assert len(list(store.manifests("evaluation"))) == 2  # one content is measured once
    assert set(Evidence(store.root, "one").long_table()["dataset"].to_pylist()) == {"alpha/dev"}
    assert list(study_beds(store, "one").sets) == ["alpha/dev"]
    assert study_beds(store, "one").sets["alpha/dev"].name == "alpha/dev"


def test_the_split_that_was_trained_on_is_said(tmp_path: Path) -> None:
    folder_of(tmp_path)
    for arm, split, said in (("query_only", "train", True), ("query_only", "dev", False), ("bm25", "train", False)):
        config = run_config(
            f"+experiment={arm}", *overrides(tmp_path / "set", tmp_path / "results", "s", f"evaluation.sets=[{split}]")
        )
        remarks = prepare(config).evaluation_set(split).remarks
        assert bool(remarks) is said
        assert not said or remarks[0].startswith(
            "these are the queries that were trained on (source.train_split=train)"
        )


def test_own_documents_change_no_id_of_a_folder_that_says_nothing(tmp_path: Path) -> None:
    folder_of(tmp_path, [*CORPUS, {"_id": "q9", "text": "nothing like it"}], [*QUERIES, {"_id": "q9", "text": "what"}])
    ids = {}
    for word in ("null", "keep", "drop"):
        given = overrides(tmp_path / "set", tmp_path / "results", "s", f"source.own_document={word}")
        identity = prepare(run_config("+experiment=query_only", *given)).identity
        assert ("own_document" in identity.mix["source"]) is (word != "null")
        ids[word] = identity.eval_id
    assert len(set(ids.values())) == 3

"""Names, seeds and files of `analysis.import_run`."""

from __future__ import annotations

from pathlib import Path

from bad_inputs import BadInput

RUN = "q Q0 a 1 2 t\nq Q0 b 2 1 t\n"


def _study(folder: Path) -> None:
    """Leave the one evaluation of a study with its judgments, and run files beside it."""
    from ablate.evaluation.rankers import Random
    from ablate.evaluation.scoring import rank_and_score
    from ablate.evaluation.storage import write_evaluation
    from ablate.recipe.values import digest
    from ablate.records import EvaluationQuery, EvaluationSet, Passage
    from ablate.store.results import ResultStore

    query = EvaluationQuery("q", "q", "text", "", "plain", "plain")
    one = EvaluationSet("toy", (Passage("a", "x"), Passage("b", "y")), (query,), {"q": {"a": 1}}, {}, ())
    store, recipe = ResultStore(folder / "results"), {"stage": "evaluation", "evaluation": {"depth": 2}}
    stage = store.folder("evaluation", digest(recipe))
    stage.mkdir(parents=True)
    result = rank_and_score(Random(0), [one], depth=2)
    counts = {"scores": len(result.scores), "candidates": result.candidates}
    store.complete(
        "evaluation",
        recipe,
        files=write_evaluation(stage, result),
        parents=(),
        seed=0,
        label="s/a",
        counts=counts,
        hardware={},
        cost={},
        started="",
    )
    files = {
        "good": RUN,
        "same": RUN,
        "other": RUN.replace("q ", "x "),
        "stranger": RUN.replace(" b ", " z "),
        "infinite": RUN.replace(" 2 t", " inf t"),
        "short": "q Q0 a\n",
        "nan": RUN.replace(" 2 t", " nan t"),
    }
    for name, text in files.items():
        (folder / f"{name}.trec").write_text(text)


def _call(
    name: str,
    words: str,
    *more: str,
    arm: str = "hosted",
    study: str = "s",
    results: str = "{dir}/results",
    make: bool = True,
) -> BadInput:
    given = more or ("--deterministic", "toy={dir}/good.trec")
    command = ("analysis.import_run", "--results", results, "--study", study, f"--name={arm}", *given)
    return BadInput(name, command, (words,), _study) if make else BadInput(name, command, (words,))


BAD_INPUTS = [
    _call("no name", "--name='' is empty", arm="", make=False),
    _call("a name of a blank", "--name=' ' is empty", arm=" ", make=False),
    _call("the folder above", "--name='..' means a folder", arm="..", make=False),
    _call("this folder", "--name='.' means a folder", arm=".", make=False),
    _call("a name with a slash", "--name='a/b' has a slash; it must be a name without a slash", arm="a/b", make=False),
    _call("a name with a control character", "has a character that cannot be printed", arm="a\x1b[31m", make=False),
    _call("a name of two lines", "has a character that cannot be printed", arm="a\nb", make=False),
    _call("a name that ends in a blank", "begins or ends with white space", arm="a ", make=False),
    _call("the name of the backbone", "--name 'untouched' is the name of the backbone", arm="untouched", make=False),
    _call(
        "the name of an arm that was run here", "has an arm 'a' that was run here; import under another --name", arm="a"
    ),
    _call("no folder of results", "the folder of results (runtime.results, --results) is ''", results="", make=False),
    _call("a study that is not there", "no evaluation of a study 't'", study="t"),
    _call("a seed in other digits", "--seed '٣' is no seed", "--seed", "٣", "toy={dir}/good.trec"),
    _call(
        "a seed of 5,000 digits", "is no seed; it must be a whole number", "--seed", "9" * 5000, "toy={dir}/good.trec"
    ),
    _call("a seed without a file", "--seed 0: give at least one DATASET=FILE", "--seed", "0"),
    _call(
        "a seed twice",
        "--seed 0 is there twice",
        "--seed",
        "0",
        "toy={dir}/good.trec",
        "--seed",
        "0",
        "toy={dir}/same.trec",
    ),
    _call(
        "one file for two seeds",
        "the same run file of toy is given for seeds 0 and 1",
        "--seed",
        "0",
        "toy={dir}/good.trec",
        "--seed",
        "1",
        "toy={dir}/good.trec",
    ),
    _call(
        "a copy of it for another seed",
        "the same run file of toy is given for seeds 0 and 1",
        "--seed",
        "0",
        "toy={dir}/good.trec",
        "--seed",
        "1",
        "toy={dir}/same.trec",
    ),
    _call(
        "seeds and none at once",
        "not allowed with argument",
        "--deterministic",
        "toy={dir}/good.trec",
        "--seed",
        "0",
        "toy={dir}/same.trec",
    ),
    _call("an unknown data set", "must be DATASET=FILE with a data set of the study: toy", "--deterministic", "t=x"),
    _call("a file that is not there", "{dir}/none: no such file", "--deterministic", "toy={dir}/none"),
    _call(
        "the queries of another set", "none of the 1 queries of toy is there", "--deterministic", "toy={dir}/other.trec"
    ),
    _call(
        "a document that the set does not have",
        "document 'z' is not among the 2 documents of toy",
        "--deterministic",
        "toy={dir}/stranger.trec",
    ),
    _call(
        "an infinite score",
        "infinite.trec: query 'q', document 'a': the score is inf",
        "--deterministic",
        "toy={dir}/infinite.trec",
    ),
    _call("a score that is no number", "nan.trec, line 1", "--deterministic", "toy={dir}/nan.trec"),
    _call("three columns", "short.trec, line 1: 3 columns, expected 6", "--deterministic", "toy={dir}/short.trec"),
    _call(
        "one query in two files",
        "query 'q' is also in",
        "--deterministic",
        "toy={dir}/good.trec",
        "toy={dir}/same.trec",
    ),
]

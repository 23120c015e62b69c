"""Command lines of `ablate.check`, `ablate.world_checks` and `ablate.runs` that make no sense."""

from __future__ import annotations

from bad_inputs import BadInput, written


def _check(name: str, words: str, *arguments: str) -> BadInput:
    return BadInput(name, ("ablate.check", *arguments), (words,))


def _runs(name: str, words: str, *arguments: str) -> BadInput:
    return BadInput(name, ("ablate.runs", *arguments), (words,))


def _world(name: str, words: str, *arguments: str) -> BadInput:
    return BadInput(name, ("ablate.world_checks", *arguments), (words,))


HERE = ("--results", "{dir}")

BAD_INPUTS = [
    BadInput(
        "testbed: a set that is not there",
        ("ablate.testbed", "tset", "--to", "{dir}/x", "source.documents=600"),
        ("no evaluation set 'tset'; it has: dev, test, heldout",),
    ),
    BadInput("testbed: nowhere to write", ("ablate.testbed", "test"), ("the following arguments are required: --to",)),
    BadInput(
        "testbed: a folder that holds something",
        ("ablate.testbed", "test", "--to", "{dir}"),
        ("is a folder that is not empty; name a new one",),
        written("x", "y"),
    ),
    BadInput(
        "testbed: a second set",
        ("ablate.testbed", "test", "dev", "--to", "{dir}/x"),
        ("'dev' is no key=value",),
    ),
    _world(
        "checks of a world that is a folder",
        "only the generated world is checked here",
        "source=beir",
        "source.path={dir}",
    ),
    _world("checks of a set that the world has not", "world has no evaluation set 'tset'", "evaluation.sets=[tset]"),
    _world("checks of a world that is too small", "source.documents", "source.documents=10"),
    _world("checks of a word that is no override", "tset", "tset"),
    _check("a folder that is not there", "'{dir}/none' is neither a folder nor an override", "{dir}/none"),
    BadInput(
        "a folder of something else",
        ("ablate.check", "{dir}"),
        ("holds no corpus.jsonl", "source=promptriever"),
        written("rows.jsonl", "{}\n"),
    ),
    _check("two folders", "is a second folder", "{dir}", "{dir}"),
    _check("a negative number of rows", "--rows -1 must be 0 or more", "--rows", "-1"),
    _check("a unit that is no unit", "budget.unit='toknes' is not known", "budget.unit=toknes"),
    _check(
        "a set that is not there",
        "no evaluation set 'tset'; it has: dev, test, heldout",
        "evaluation.sets=[tset]",
        "source.documents=600",
    ),
    _check("a source that is not there", "'/nowhere' is not a folder", "source=beir", "source.path=/nowhere"),
    _check(
        "a study with a second experiment",
        "cannot stand beside +sweeps=smoke",
        "+sweeps=smoke",
        "+experiment=dual_view",
    ),
    _check("a study with a list of values", "a check takes one value of each key", "+sweeps=smoke", "seed=0,1"),
    _check(
        "a study whose claim has no place",
        "the dataset 'world/tset' is none of world/test; did you mean",
        "+sweeps=smoke",
        "study.claims.0.dataset=world/tset",
        "--rows",
        "0",
    ),
    _check("a study without its folder", "source.path has no value and needs one: add source.path=", "+sweeps=movies"),
    _check(
        "a study that refers to nothing",
        "${nope} refers to a key that is not there",
        "+sweeps=smoke",
        "study.seeds=[${nope}]",
    ),
    _check("a bracket that is not closed", "[ is not closed by ]", "train.epochs=[1"),
    _check("a file that tunes", "has no block `study`", "+sweeps=tune"),
    _runs(
        "results that are not there",
        "is no folder; name the one that runs were written to",
        "list",
        "--results",
        "{dir}/none",
    ),
    _runs("a study without stages", "no stage of a study 'x' under {dir}; studies there: none", "list", "x", *HERE),
    _runs("a comparison with nothing", "no train 'x' under", "diff", "x", "y", *HERE),
    _runs("a comparison of a kind with nothing", "no mix 'x' under", "diff", "x", "y", "--kind", "mix", *HERE),
    _runs("a removal of nothing", "nothing under {dir} goes by 'x'", "remove", "x", "--yes", *HERE),
    _runs("a removal of a run that is not there", "goes by 'x/y:0'", "remove", "x/y:0", "--yes", *HERE),
    _runs("a removal of everything", "goes by ''", "remove", "", "--yes", *HERE),
]

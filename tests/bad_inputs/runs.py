"""Command lines of `ablate.run` that make no sense."""

from __future__ import annotations

from bad_inputs import BadInput


def _run(name: str, words: str, *overrides: str) -> BadInput:
    return BadInput(name, ("ablate.run", "tracker=none", "runtime.results={dir}/results", *overrides), (words,))


BAD_INPUTS = [
    _run(
        "a unit that is no unit",
        "budget.unit='toknes' is not known; allowed: groups, pairs, tokens, queries",
        "budget.unit=toknes",
    ),
    _run(
        "a cap on negatives that there are not",
        "train.most_negatives=4 is about in-batch negatives, and train.in_batch_negatives=false leaves them out",
        "train.most_negatives=4",
        "train.in_batch_negatives=false",
    ),
    _run(
        "labels of negatives that there are not",
        "set it to true, or train.same_query=mask",
        "train.same_query=use",
        "train.in_batch_negatives=false",
    ),
    _run(
        "a cap below what a row lists",
        "train.most_negatives=2 is less than budget.negatives_per_group=3, which a row always keeps; raise it to 3",
        "train.most_negatives=2",
        "budget.negatives_per_group=3",
    ),
    _run("a folder that is not there", "/nowhere", "source=beir", "source.path=/nowhere"),
]

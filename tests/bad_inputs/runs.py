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
    _run("a folder that is not there", "/nowhere", "source=beir", "source.path=/nowhere"),
]

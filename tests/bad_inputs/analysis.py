"""Commands of `analysis` that read a folder of results, and options that mean nothing."""

from __future__ import annotations

from pathlib import Path

from bad_inputs import BadInput


def _study(folder: Path) -> None:
    """Leave two arms without training, one seed each, as a study `s`."""
    from synthetic_study import Arm, make_study

    arms = {name: Arm(system={"stage": "ranker", "k1": k1}, seeds=(0,)) for k1, name in enumerate("ab")}
    make_study(folder / "r", arms)


def _call(name: str, words: str, module: str, *arguments: str, made: bool = False) -> BadInput:
    command = (f"analysis.{module}", *arguments)
    return BadInput(name, command, (words,), _study) if made else BadInput(name, command, (words,))


def _damaged_note(folder: Path) -> None:
    """Leave a W&B run whose note is no note."""
    place = folder / "r/wandb/wandb/offline-run-20260101_000000-a/ablate.json"
    place.parent.mkdir(parents=True)
    place.write_text("[]")


NOWHERE = "the folder of results (runtime.results, --results) is ''"
SYNC = ("analysis.wandb_sync", "s", "--results", "{dir}/r")
BAD_INPUTS = [
    BadInput(
        "sync: no run of W&B", SYNC, ("no offline W&B run of a study 's' under {dir}/r/wandb; studies there: none",)
    ),
    BadInput("sync: a damaged note", SYNC, ("ablate.json: not a note on a run of W&B (",), _damaged_note),
    _call(
        "sync: no time", "'0' is no time; it must be a number of seconds above 0", "wandb_sync", "s", "--timeout", "0"
    ),
    _call("W&B report: unknown study", "studies there: s", "wandb_report", "x", "--results", "{dir}/r", made=True),
    _call(
        "W&B report: unknown arm",
        "baseline",
        "wandb_report",
        *("s", "--results", "{dir}/r", "--baseline", "z"),
        made=True,
    ),
    *(
        _call(f"{module}: no folder of results", NOWHERE, module, "s", "--results", "", *more)
        for module, more in (
            ("budgets", ()),
            ("collect", ()),
            ("costs", ()),
            ("fairness", ()),
            ("leaks", ()),
            ("noise_floor", ()),
            ("watch", ()),
            ("explain", ("--query", "q")),
            ("dose_response", ()),
            ("claims", ()),
            ("report", ()),
            ("wandb_report", ()),
            ("wandb_sync", ()),
            ("breakdown", ()),
            ("significance", ("--baseline", "a")),
        )
    ),
    BadInput(
        "a run without a folder of results",
        ("ablate.run", "tracker=none", "runtime.results=''"),
        ("runtime.results is empty, which would mean the current folder",),
    ),
    BadInput(
        "a run without a name",
        ("ablate.run", "tracker=none", "runtime.results={dir}/r", "runtime.label='..'"),
        ("runtime.label='..' means a folder",),
    ),
    _call("leaks: a share above 1", "--near 1.5 is no share of a document", "leaks", "s", "--near", "1.5"),
    _call("leaks: a share of nothing", "--near 0 is no share of a document", "leaks", "s", "--near", "0"),
    _call("leaks: a share that is no number", "--near nan is no share of a document", "leaks", "s", "--near", "nan"),
    _call("leaks: what cannot be left out", "invalid choice: 'all'", "leaks", "s", "--leave-out", "all"),
    _call("leaks: no such study", "no evaluation of a study 't'", "leaks", "t", "--results", "{dir}/r", made=True),
    _call("leaks: nothing trained", "study 's' has no run with a mix", "leaks", "s", "--results", "{dir}/r", made=True),
    _call(
        "leaks: an unknown arm",
        "'z'",
        "leaks",
        "s",
        "--results",
        "{dir}/r",
        "--contrast",
        "z - a",
        made=True,
    ),
    _call("leaks: a folder for a file", "is a folder; name a file", "leaks", "s", "--json", "{dir}"),
    _call(
        "dose_response: no level", "--alpha is 2.0; it must lie between 0 and 0.5", "dose_response", "s", "--alpha", "2"
    ),
    _call("dose_response: no audit", "there is no such file", "dose_response", "s", "--audit", "{dir}/none.json"),
    _call(
        "dose_response: no doses",
        "that differ in factors.label_noise alone are none",
        "dose_response",
        "s",
        "--results",
        "{dir}/r",
        made=True,
    ),
    _call(
        "dose_response: an unknown arm",
        "arm 'z' is unknown",
        "dose_response",
        "s",
        "--results",
        "{dir}/r",
        "--doses",
        "a=0, z=.5",
        made=True,
    ),
    _call("explain: nothing asked", "one of the arguments --query --worst is required", "explain", "s"),
    _call("explain: nothing to show", "--limit 0 is nothing to show", "explain", "s", "--query", "q", "--limit", "0"),
    _call(
        "explain: an unknown arm",
        "--worst 'z' is no arm",
        "explain",
        "s",
        "--results",
        "{dir}/r",
        "--worst",
        "z",
        "a",
        made=True,
    ),
    _call(
        "explain: no judgments", "kept no judgments", "explain", "s", "--results", "{dir}/r", "--query", "q", made=True
    ),
    _call("paper: of a file", "which a file of scores does not hold", "significance", "--scores", "x.csv", "--paper"),
    _call("watch: too often", "--every 0.1 is too often", "watch", "s", "--every", "0.1"),
    _call(
        "watch: no such study", "has neither runs nor a declaration", "watch", "t", "--results", "{dir}/r", made=True
    ),
    _call("noise_floor: no runs", "--seeds 0 is no number of runs", "noise_floor", "s", "--seeds", "0"),
    _call(
        "noise_floor: no such study",
        "no evaluation of a study 't'",
        "noise_floor",
        "t",
        "--results",
        "{dir}/r",
        made=True,
    ),
    _call(
        "noise_floor: nothing trained",
        "none that differ in one thing",
        "noise_floor",
        "s",
        "--results",
        "{dir}/r",
        made=True,
    ),
    _call(
        "noise_floor: an unknown folder",
        "no evaluation of a study 's'",
        "noise_floor",
        "s",
        "--results",
        "{dir}/r",
        "--also",
        "{dir}/q",
        made=True,
    ),
    _call("an unknown study", "no evaluation of a study 't'", "fairness", "t", "--results", "{dir}/r", made=True),
    _call(
        "an unknown baseline",
        "--baseline 'z' has no scores in study 's'; arms are a, b",
        "fairness",
        "s",
        "--results",
        "{dir}/r",
        "--baseline",
        "z",
        made=True,
    ),
    _call(
        "nothing to contrast",
        "study 's' has no declared claims; give --baseline ARM",
        "significance",
        "s",
        "--results",
        "{dir}/r",
        made=True,
    ),
    _call(
        "report: no such audit",
        "--audit {dir}/none.json: there is no such file; give the file that python -m analysis.inversion_audit --json",
        "report",
        "s",
        "--audit",
        "{dir}/none.json",
        "--results",
        "{dir}/r",
        made=True,
    ),
    _call("report: no such study", "no evaluation of a study 't'", "report", "t", "--results", "{dir}/r", made=True),
    _call(
        "report: an unknown baseline",
        "--baseline 'z' has no scores in study 's'; arms are a, b",
        "report",
        "s",
        "--results",
        "{dir}/r",
        "--baseline",
        "z",
        made=True,
    ),
    _call(
        "report: into the folder of a stage",
        "where only stages of runs are; name another folder",
        "report",
        "s",
        "--results",
        "{dir}/r",
        "--out",
        "{dir}/r/evals/x/report",
        made=True,
    ),
    _call("an unknown option", "unrecognized arguments: --nothing", "fairness", "s", "--nothing"),
    _call("no study", "the following arguments are required: study", "budgets"),
    _call(
        "an unknown measure",
        "--measure 'x' is not there; measures: nDCG@10",
        "collect",
        "s",
        "--results",
        "{dir}/r",
        "--measure",
        "x",
        made=True,
    ),
]

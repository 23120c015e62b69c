"""Trackers that are none, and names that W&B cannot take."""

from __future__ import annotations

from bad_inputs import BadInput


def _row(words: str, *overrides: str) -> BadInput:
    return BadInput(" ".join(overrides)[:60], ("ablate.run", "runtime.results='{dir}/results'", *overrides), (words,))


NAME = " is no name for W&B: up to 128 characters"

BAD_INPUTS = [
    _row("there are: none, trackio, wandb, wandb_offline; did you mean wandb?", "tracker=wanb"),
    _row("tracker is a group, whose values are files", "tracker=1"),
    _row("there is one tracker already, which is changed without +: tracker=wandb", "+tracker=wandb"),
    _row(
        "runtime.tracker.kind='online' is not known; allowed: none, wandb_offline, wandb, trackio",
        "runtime.tracker.kind=online",
    ),
    _row(
        "runtime.tracker.project='a.b' is no name for trackio: letters",
        "tracker=trackio",
        "runtime.tracker.project=a.b",
    ),
    _row(
        "runtime.tracker.project='my_system' is a name that trackio keeps for files of its own",
        "tracker=trackio",
        "runtime.tracker.project=my_system",
    ),
    _row("is a name that trackio keeps", "tracker=trackio", "runtime.tracker.project=registry-a"),
    _row(
        "runtime.tracker.entity='me' is a user or team of W&B, and trackio has none; set it to null",
        "tracker=trackio",
        "runtime.tracker.entity=me",
    ),
    _row("runtime.tracker.kind=[] is not known", "runtime.tracker.kind=[]"),
    _row("runtime.tracker.project='a/b'" + NAME, "runtime.tracker.project=a/b"),
    _row("runtime.tracker.project='a?'" + NAME, "runtime.tracker.project='a?'"),
    _row("runtime.tracker.project=''" + NAME, "runtime.tracker.project="),
    _row("runtime.tracker.project=' a'" + NAME, "runtime.tracker.project=' a'"),
    _row(NAME, "runtime.tracker.project=" + "a" * 129),
    _row("runtime.tracker.project is not set (null)", "runtime.tracker.project=null"),
    _row("runtime.tracker.entity='#1'" + NAME, "runtime.tracker.entity='#1'"),
    _row("runtime.tracker.entity=3 has the wrong type (int); it takes text", "runtime.tracker.entity=3"),
    _row(
        "runtime.tracker.log_model='yes' has the wrong type (str); it takes true or false",
        "runtime.tracker.log_model='yes'",
    ),
    _row(
        "unknown key runtime.tracker.projct; known here: kind, project, entity, log_model; did you mean "
        "runtime.tracker.project?",
        "runtime.tracker.projct=a",
    ),
]

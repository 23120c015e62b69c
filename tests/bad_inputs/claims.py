"""Declarations of studies that cannot be judged: refused at the plan, before anything runs."""

from __future__ import annotations

from bad_inputs import BadInput

CLAIM = {
    "name": "c",
    "says": "s",
    "contrast": "dual_view - untouched",
    "dataset": "world/test",
    "condition": "pairs",
    "direction": "both",
    "measure": "satisfying over violating",
    "expects": "greater",
}


def _study(name: str, words: str, *overrides: str) -> BadInput:
    given = ("+sweeps=smoke", "study.arms=[dual_view]", "study.seeds=[0]", *overrides)
    return BadInput(name, ("ablate.run", "-m", *given, "runtime.results={dir}/results", "tracker=none"), (words,))


def _claim(name: str, words: str, **changes: str | float) -> BadInput:
    return _claims(name, words, {**CLAIM, **changes})


def _claims(name: str, words: str, *claims: dict[str, str | float]) -> BadInput:
    return _study(name, words, _given(*claims))


def _given(*claims: dict[str, str | float]) -> str:
    inside = ("{" + ",".join(f"{key}:{_text(value)}" for key, value in one.items()) + "}" for one in claims)
    return f"study.claims=[{','.join(inside)}]"


def _text(value: str | float) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


BAD_INPUTS = [
    _claim(
        "p-MRR that is less",
        "turn the contrast 'dual_view - untouched' round and expect greater",
        condition="changed",
        direction="usual",
        measure="p-MRR",
        expects="less",
    ),
    _claim("a lax level", "'c' has alpha=0.1; a claim is tested at 0.05 or below", alpha=0.1),
    _claim("a level of no test", "study.claims[0].alpha=0.5 is out of range", alpha=0.5),
    _study(
        "a look at three of five seeds",
        "study.looks=[3, 5] has looks at 3 seeds, at which no claim can be confirmed",
        "study.seeds=[0,1,2,3,4]",
        "+study.looks=[3,5]",
        _given(CLAIM),
    ),
    _claim(
        "an unknown data set",
        "the dataset 'wrld/test' is none of world/test; did you mean world/test?",
        dataset="wrld/test",
    ),
    _claim(
        "a data set that is there and not measured",
        "the dataset 'world/heldout' is none of world/test",
        dataset="world/heldout",
    ),
    _claim(
        "an unknown condition",
        "the condition 'pair' is none of plain, original, changed, reversed, instructed,",
        condition="pair",
    ),
    _claim(
        "a condition without the measure",
        "there are no scores of satisfying over violating on world/test (plain:",
        condition="plain",
    ),
    _claim(
        "an unknown direction",
        "(pairs: boht); there are 'satisfying over violating on world/test (pairs: both)'",
        direction="boht",
    ),
    _claim(
        "no direction where there are two",
        "(pairs: no direction is named); there are",
        measure="one-sided rate",
        direction="",
    ),
    _claim("a measure in another spelling", "measure 'ndcg@10' is not known", measure="ndcg@10"),
    _claim("a misspelt measure", "did you mean pairwise accuracy?", measure="pairwise acuracy"),
    _claim(
        "a cut-off that is not reported",
        "there are no scores of nDCG@20 on world/test (plain: plain)",
        measure="nDCG@20",
        condition="plain",
        direction="plain",
    ),
    _claim(
        "an unknown arm",
        "study.claims: 'c': contrast 'dual_veiw - untouched': arm 'dual_veiw' is "
        "unknown; arms are dual_view, untouched; did you mean dual_view?",
        contrast="dual_veiw - untouched",
    ),
    _claim("an arm without a minus", "a + or - is missing", contrast="dual_view untouched"),
    _claim("an arm with itself", "must sum to 0 and not all be 0", contrast="dual_view - dual_view"),
    _claim("weights that do not sum to 0", "sum to 1;", contrast="2*dual_view - untouched"),
    _claim("one arm", "sum to 1;", contrast="dual_view"),
    _claim("no contrast", "must sum to 0", contrast=""),
    _claim("an endless weight", "'c': ", contrast=f"{'9' * 400}*dual_view - {'9' * 400}*untouched"),
    _claim("a trend without doses", "is not arm=dose", contrast="trend: dual_view, untouched"),
    _claim("a trend over nan", "'dual_view=nan' is not arm=dose", contrast="trend: dual_view=nan, untouched=1"),
    _claim("a trend over one dose", "needs two different doses", contrast="trend: dual_view=1, untouched=1"),
    _claim("a trend with an arm twice", "names arm 'dual_view' twice", contrast="trend: dual_view=0, dual_view=1"),
    _claim("a trend over an unknown arm", "arm 'x' is unknown", contrast="trend: dual_view=0, x=1"),
    _claim("a margin of 0", "study.claims[0].margin=0.0 is out of range", margin=0),
    _claim("a negative margin", "study.claims[0].margin=-0.1 is out of range", margin=-0.1),
    _claim("a margin in points", "the margin 2 must lie between 0 and 1", margin=2, expects="not_worse"),
    _claim("a margin that is nan", "study.claims[0].margin=nan must be a finite number", margin=float("nan")),
    _claim("no margin where one is needed", "'c' expects equivalent and has no margin", expects="equivalent"),
    _claim("an alpha of 0", "study.claims[0].alpha=0.0 is out of range", alpha=0),
    _claim("an alpha above the largest", "study.claims[0].alpha=0.5 is out of range", alpha=0.5),
    _claim("an expectation that is none", "study.claims[0].expects='more' is not known", expects="more"),
    _claim("a misspelt key", "unknown key study.claims[0].datset", datset="world/test"),
    _claims("two claims of one name", "the name 'c' is there twice", CLAIM, {**CLAIM, "expects": "less"}),
    _claims("one test under two names", "'c' and 'd' are one test under two names", CLAIM, {**CLAIM, "name": "d"}),
    _claims(
        "one test the other way round",
        "'c' and 'd' are one test under two names",
        CLAIM,
        {**CLAIM, "name": "d", "expects": "less", "contrast": "untouched - dual_view"},
    ),
    _claim(
        "a population of an unknown kind",
        "the units of world/test are in no clusters of the kind 'constrant'; population is queries or constraint or "
        "template or topic or kind; did you mean constraint?",
        population="constrant",
    ),
    _claim("forms for a population", "'c' has population=['form']; form is a fixed stratum", population="form"),
    _claim("no population", "'c' has population=['']; it takes one kind of cluster", population=""),
    _claim("a population that is a number", "study.claims[0].population=3 must be a list", population=3),
    _study(
        "too few clusters to confirm anything",
        "'c': 6 clusters of the kind 'topic' cannot confirm anything over new ones: that takes 10",
        "study.seeds=[0,1,2,3,4]",
        _given({**CLAIM, "population": "topic"}),
    ),
    _study(
        "a margin of an unknown measure",
        "study.margins: nDCG: measure 'nDCG' is not known",
        "+study.margins=[[nDCG,.1]]",
    ),
    _study(
        "a margin of nothing",
        "study.margins: nDCG@10: the margin 0 must lie between 0 and 1",
        "+study.margins=[[nDCG@10,0.0]]",
    ),
    _study(
        "two margins of one measure",
        "study.margins: nDCG@10 is there twice",
        "+study.margins=[[nDCG@10,0.1],[nDCG@10,0.2]]",
    ),
]

"""The file of a new study: two arms, two claims, and a comment beside every choice."""

from __future__ import annotations

TEMPLATE = """\
# @package _global_
# What is asked, and where the question comes from: a paper, an objection, an observation of your own.
# Fields of the block `study`: docs/claims.md; keys that all runs share: docs/configuration.md.
#   python -m ablate.check +sweeps={name}                              can the claims be judged?
#   python -m ablate.run -m +sweeps={name} runtime.plan_only=true      every run, and what it costs
#   python -m ablate.run -m +sweeps={name}                             the runs; again after any interruption
#   python -m analysis.claims {name}                                   a verdict for each claim
defaults:
  - override /tracker: none # nothing is logged beside results/; without this line W&B logs offline
study:
  question: Does {arm} obey instructions more often than {baseline}?
  # Arms of conf/experiment/, each with overrides of its own after it: "label_noise factors.label_noise=0.1".
  # Two arms of one contrast differ in one thing, or the verdict is CONFOUNDED.
  arms: [{baseline}, {arm}]
  # Seeds that nobody has looked at. Five are the least that confirm a claim; fewer are EXPLORATORY.
  seeds: [100, 101, 102, 103, 104]
  # Numbers of seeds at which claims are judged. Each look takes its share of alpha.
  looks: [5]
  # The largest loss that counts as none, per measure. A claim on p-MRR needs one of nDCG@10.
  margins:
    - [nDCG@10, 0.02]
  # Written before the first result: a claim that is added later is EXPLORATORY. Every claim makes Holm's correction
  # stricter, so declare what you mean to report and nothing else.
  claims:
    - name: obeys_more
      says: At equal rows, {arm} ranks satisfying above violating documents more often than {baseline}.
      contrast: {arm} - {baseline}
      dataset: {dataset} # a data set and its evaluation set, or macro: the mean over all of them
      condition: pairs
      direction: both
      measure: satisfying over violating
      expects: greater # or less, equivalent, not_worse
      margin: 0.03 # a difference that counts as none; with it the claim can be refuted too
      population: queries # new queries like these; constraint or template: over new ones of them (ten at least)
    - name: keeps_plain_retrieval
      says: Without an instruction, {arm} is not worse than {baseline} by more than the margin.
      contrast: {arm} - {baseline}
      dataset: {dataset}
      condition: plain
      direction: plain
      measure: nDCG@10
      expects: not_worse
      margin: 0.02
"""


def study_file(name: str, baseline: str, arm: str, dataset: str) -> str:
    """Return the text of a study of an arm against another one, measured on a data set such as `world/test`."""
    return TEMPLATE.format(name=name, baseline=baseline, arm=arm, dataset=dataset)

"""Audits of synthesized labels: items and judgments, the estimate of their accuracy, agreement of raters, verdicts."""

"""Analysis: from scores in files to contrasts, verdicts and reports; it loads no model and no trainer."""

"""A study opened: its runs, scores, totals, checks and differences."""

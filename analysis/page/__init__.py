"""The report of a study: one record of all that is said, its figures, and what writes it as a page and as files."""

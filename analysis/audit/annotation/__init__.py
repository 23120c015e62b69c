"""Human judgments on the sheets of a sample, by a page or a spreadsheet, and what is settled where raters differ."""

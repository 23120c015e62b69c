"""Rankings that were made elsewhere, scored and taken in."""

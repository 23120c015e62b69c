"""Declared claims: whether they can be judged, and the verdict on each."""

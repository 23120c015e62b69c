"""Evaluation: exact search, the one ranking of every query, measures, and the protocol from a model to scores."""

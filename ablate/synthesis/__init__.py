"""Texts that a language model writes or judges: asked once, kept raw, validated, with where they are from.

    rows -> tasks (`steps`) -> requests (`asking`: cache, budget, pace) -> engine -> raw answers -> `answers` -> rows

Engines: an endpoint that speaks OpenAI's protocol, a local model of transformers, a simulation of known error rates.
"""

"""Parts of `benchmarks.beside`: what is worked on, both sides of it, the worker processes, and what is written."""

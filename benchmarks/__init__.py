"""Speed and memory of what has to be fast, each in a fresh process; nothing here is a timed test."""

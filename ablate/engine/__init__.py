"""One run: made ready, made stage by stage, recorded and shown."""

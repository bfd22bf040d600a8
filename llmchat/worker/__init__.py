"""The one thread that owns the engine, and the values that pass to and from it."""

"""How long a test waits for what must come."""

PATIENCE_SECONDS = 120.0
"""Never waited for where all is well: it only ends a test in vain, and a busy machine may be ten times as slow."""

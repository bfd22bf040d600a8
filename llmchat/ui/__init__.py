"""The full-screen window. Never imports torch."""

"""Pure layout of the transcript: turns in, lines of styled text out. Knows no widget and no colour."""

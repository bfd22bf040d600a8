"""Pure values of a conversation: settings, turns, transcripts. No torch, no textual."""

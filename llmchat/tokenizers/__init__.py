"""Text to token ids and back, by bytes, and the styles that turn a chat into a prompt."""

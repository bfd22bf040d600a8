"""Hostile files: thousands of damaged and malicious inputs of each format that llmchat reads.

    python -m tests.hostile --cases 10000 gguf jinja
    python -m tests.hostile --only 4711 gguf

Each case is made from its format and number alone, so that a finding can be made again. Every case
must end in success or in an error of llmchat's own, within 10 seconds and 2 GB.
"""

"""The two model families, as torch modules: GPT with learned positions, and Llama."""

"""The model at work: architectures, KV cache, prefill and decode, the generation loop."""

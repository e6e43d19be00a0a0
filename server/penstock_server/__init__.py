"""Penstock's HTTP side: an OpenAI-compatible API before an engine that runs in another process. Never imports torch."""

"""A terminal client for any OpenAI-compatible chat API. It knows HTTP and nothing of how a server is made."""

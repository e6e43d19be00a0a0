"""Calls of tools: what a request may offer, how models write calls, and the grammars that keep them to it."""

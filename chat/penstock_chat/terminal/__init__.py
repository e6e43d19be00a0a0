"""The keyboard: the prompt, its keys, its history, its completion. Loaded only where somebody types."""

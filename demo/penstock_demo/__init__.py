"""The demo model that Penstock ships: a grammar that writes its corpus, and the training of a small Llama on it."""

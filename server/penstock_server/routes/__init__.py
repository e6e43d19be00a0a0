"""One file per route. Each makes its router from the context; nothing is found by import."""

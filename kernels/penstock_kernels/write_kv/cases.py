"""(tokens, num_slots, num_kv_heads, head_size)."""

SHAPES = ((1, 64, 3, 64), (16, 128, 3, 64), (37, 80, 1, 20), (5, 5, 2, 24))

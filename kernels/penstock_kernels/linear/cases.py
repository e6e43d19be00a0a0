"""(outputs, inputs) of the weight and the numbers of tokens it is applied to after being packed once."""

SHAPES = ((960, 576), (576, 1536), (77, 33), (1, 5))
NUM_TOKENS = (1, 2, 16, 33, 500, 2048)

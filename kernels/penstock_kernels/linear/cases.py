"""(outputs, inputs) of the weight and the numbers of tokens it is applied to after being packed once."""

SHAPES = ((960, 576), (576, 1536), (77, 33), (1, 5), (64, 2100))
NUM_TOKENS = (1, 2, 16, 17, 33, 65, 500, 2048)

# What Triton's interpreter can do in a moment: less than a tile, no multiple of one, several tiles, several segments.
INTERPRETED_SHAPES = ((77, 33), (1, 5), (70, 1100))
INTERPRETED_NUM_TOKENS = (1, 17, 70)

QUANTISED_SHAPES = ((77, 33), (48, 256), (20, 1100))

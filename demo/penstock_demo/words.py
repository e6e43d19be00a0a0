"""The words that stories are made of: names, animals, traits, places, things."""

GIRLS = tuple(
    "Mira Lily Anna Tilda Rosa Nora Ella Ida Clara Mina Luna Hazel Ivy Poppy Ruby Olive Wilma Greta Daisy Flora Nell"
    " Penny Molly Sally Zoe Maya Lena Tara Bella Hanna".split()
)
BOYS = tuple(
    "Pip Tom Ben Max Leo Finn Otto Hugo Sam Milo Oscar Ned Theo Jack Felix Emil Bruno Tim Rufus Arlo Kit Noah Oliver"
    " Bo Jasper Robin Toby Karl Dan Will".split()
)
SYLLABLES_FIRST = tuple("Ba Bel Da Fi Gru Ha Jo Ka Lo Mar Na Pel Qui Ra Sol Ta Tor Ve Wen Ya Zu Mo Li El Os".split())
SYLLABLES_LAST = tuple("bo ka lin ma mi na nor ri ro ta to wen zi lo da nka ffy ppo bby vin".split())

ANIMALS = tuple(
    "fox rabbit bear mouse owl hedgehog squirrel badger duck frog cat dog puppy kitten turtle mole otter beaver lamb"
    " goat pony penguin elephant lion tiger dragon sparrow goose pig donkey monkey wolf snail raven ant".split()
)
TRAITS = tuple(
    "brave kind curious shy clever cheerful gentle little small young lazy proud quiet merry playful funny friendly"
    " honest eager careful sleepy adventurous impatient clumsy dreamy thoughtful bold tiny lively grumpy".split()
)
ELDERS = ("mother", "father", "grandmother", "grandfather", "aunt", "uncle")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "golden", "silver", "white", "pink")

HOMES = (
    "in a(n) [small|old|cosy|tiny|yellow] house [near the river|at the edge of the forest|by the sea|on a hill]",
    "in a(n) [quiet|sunny|little] village [by the sea|in the mountains|between two hills]",
    "on a(n) [small|old|busy] farm [in a green valley|near the woods]",
    "in a [warm|cosy] cottage under an old oak",
    "deep in the [green|old|quiet] forest",
    "at the foot of a [great|snowy] mountain",
    "in a [tall|crooked] house in the middle of the town",
    "beside a [blue|still|little] lake",
    "on an island in the middle of the sea",
)
PLACES = (
    "the old mill", "the duck pond", "the big oak", "the stone bridge", "the apple orchard", "the dark forest",
    "the river", "the meadow", "the old castle", "the beach", "the windy hill", "the blue lake", "the market square",
    "the empty barn", "the lighthouse", "the rose garden", "the little church", "the hollow tree",
    "the railway station", "the waterfall", "the cornfield", "the school",
)  # fmt: skip
FAR_PLACES = (
    "the sea", "the big city", "the great waterfall", "the crystal cave", "the desert", "the valley of flowers",
    "the island of birds", "the golden castle", "the snowy mountain", "the old harbour", "the land behind the hills",
    "the queen's garden",
)  # fmt: skip
TOY_LOOKS = ("wooden", "little", "shiny", "old", "tiny", *COLOURS)
TOYS = (
    "ball", "boat", "drum", "doll", "kite", "train", "whistle", "marble", "music box", "spinning top", "teddy bear",
    "puppet", "picture book", "umbrella", "lantern", "flute", "horse", "hat",
)  # fmt: skip
SNACKS = ("apples", "cherries", "pears", "plums", "berries", "strawberries", "peaches", "grapes", "oranges", "figs")
BAKES = (
    "apple pie", "honey cake", "plum tart", "chocolate cake", "lemon cake", "carrot cake", "berry pie", "orange cake",
    "cherry pie", "walnut cake", "ginger cake",
)  # fmt: skip
HOBBIES = (
    "sing", "climb trees", "read books", "watch the clouds", "swim in the river", "dance in the rain", "collect stones",
    "draw pictures", "tell jokes", "pick flowers", "build towers", "listen to stories", "play the flute",
    "chase butterflies", "sit by the window", "make soup", "ask questions", "jump over puddles", "whistle", "explore",
)  # fmt: skip

"""Writes stories of four or five sentences: a wish, an obstacle, a way out."""

from random import Random

from penstock_demo import words
from penstock_demo.cast import Character, draw_cast, slots_for
from penstock_demo.grammar import pick

_OPENINGS = (
    "{A} the {kind} wanted to {wish}.",
    "One day, a(n) {trait} {kind} named {A} wanted to {wish}.",
    "There was once a(n) {trait} {kind} named {A} who wanted to {wish}.",
    "Once upon a time, {A} the {kind} had an idea. {He} wanted to {wish}.",
    "{A} was a(n) {trait} {kind}, and all {he} wanted was to {wish}.",
)
_WISHES = (
    ("catch a cloud", "every time {he} came close, the cloud floated away",
     "{he} lay down in the grass and watched it instead"),
    ("learn to whistle", "only air came out", "{he} practised until a tiny note came out"),
    ("swim across {place_water}", "the water was cold", "{he} went in one toe at a time"),
    ("count all the stars", "there were too many of them", "{B} the {bkind} counted one half and {A} the other"),
    ("find the end of the rainbow", "it moved whenever {he} moved", "{he} painted a rainbow at home"),
    ("climb the tallest tree", "the first branch was too high", "{B} the {bkind} lent {him} a ladder"),
    ("build a boat", "it had a hole in it", "{he} closed the hole with wax from a bee"),
    ("fly like a bird", "{he} had no wings", "{B} the {bkind} pushed {him} high up on a swing"),
    ("stay awake all night", "{his} eyes kept closing", "{he} slept, and in {his} dream {he} was awake"),
    ("write a letter to the moon", "{he} did not know the address", "{he} tied the letter to a kite"),
    ("buy a(n) {thing}", "{he} had only one coin", "{he} helped at the market until {he} had three"),
    ("sing in front of everyone", "{his} voice shook", "{B} the {bkind} sang along"),
    ("eat all the {snack}", "{his} tummy began to hurt", "{he} gave the rest to {B} the {bkind}"),
    ("teach a fish to talk", "the fish said nothing", "{he} listened, and that was nice too"),
    ("ride to {far}", "the road was long", "{he} sang a song for every mile"),
    ("make a(n) {colour} paint", "it always turned brown", "{he} asked {B} the {bkind}, who knew about colours"),
    ("wake up the sun", "it was still dark", "{he} waited with a cup of tea, and the sun came by itself"),
    ("give {B} the {bkind} a present", "{he} had no money", "{he} made a picture of the two of them"),
)  # fmt: skip
_OBSTACLES = ("But {obstacle}.", "[At first|Sadly], {obstacle}.", "There was only one problem: {obstacle}.")
_WAYS_OUT = (
    "So {way}.", "Then {A} had an idea, and {way}.", "{He} thought about it for a while. In the end, {way}.",
    "{He} did not give up, and at last {way}.",
)  # fmt: skip
_ENDINGS = (
    "{A} was so [happy|glad|proud] that {he} [danced|laughed out loud|told everyone].",
    "\"[That was easy|What a day|I did it]!\" said {A}.",
    "And that was [even better|good enough].",
    "That evening {A} went to bed with a smile.",
    "The end.",
)  # fmt: skip


def write_tiny_story(rng: Random) -> tuple[Character, str]:
    """Return the hero and a story of about forty words."""
    hero, friend = draw_cast(rng)
    slots = slots_for(hero, friend, rng)
    slots["place_water"] = rng.choice(("the lake", "the river", "the duck pond", "the bay"))
    slots["snack"] = rng.choice(words.SNACKS[:6])
    wish, obstacle, way = rng.choice(_WISHES)
    slots["wish"], slots["obstacle"], slots["way"] = (pick((part,), rng, slots) for part in (wish, obstacle, way))
    groups = (_OPENINGS, _OBSTACLES, _WAYS_OUT, _ENDINGS)
    return hero, " ".join(pick(templates, rng, slots) for templates in groups)

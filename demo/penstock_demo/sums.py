"""Small sums and their answers: addition and subtraction up to 20, multiplication up to 10 times 10."""

from dataclasses import dataclass
from random import Random

from penstock_demo import words
from penstock_demo.grammar import expand

LARGEST_TERM = 20
LARGEST_FACTOR = 10

PHRASINGS = {
    "+": (
        "What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b} =", "{a} + {b}", "{a}+{b}", "How much is {a} + {b}?",
        "How much is {a} plus {b}?", "Add {a} and {b}.", "Can you add {a} and {b}?", "What do you get for {a} + {b}?",
        "Please compute {a} + {b}.", "what is {a}+{b}?", "What is the sum of {a} and {b}?", "Calculate {a} + {b}.",
    ),
    "-": (
        "What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b} =", "{a} - {b}", "{a}-{b}", "How much is {a} - {b}?",
        "How much is {a} minus {b}?", "Subtract {b} from {a}.", "Take {b} away from {a}.", "what is {a}-{b}?",
        "Please compute {a} - {b}.", "What do you get for {a} - {b}?", "Calculate {a} - {b}.",
    ),
    "*": (
        "What is {a} times {b}?", "What is {a} * {b}?", "{a} * {b} =", "{a} x {b}", "{a} * {b}",
        "How much is {a} times {b}?",
        "Multiply {a} by {b}.", "What is {a} x {b}?", "Please compute {a} * {b}.", "Calculate {a} * {b}.",
    ),
}  # fmt: skip
HELD_OUT_PHRASINGS = {
    "+": ("Tell me what {a} plus {b} makes.", "Can you work out {a} + {b}?"),
    "-": ("Tell me what {a} minus {b} makes.", "Can you work out {a} - {b}?"),
    "*": ("Tell me what {a} times {b} makes.", "Can you work out {a} * {b}?"),
}
_SPOKEN = {"+": "plus", "-": "minus", "*": "times"}
_ANSWERS = (
    "{a} {op} {b} = {c}.",
    "{a} {op} {b} = {c}.",
    "{a} {spoken} {b} is {c}.",
    "That is {c}.",
    "The answer is {c}.",
)
_PROBLEMS = {
    "+": (
        ("{A} has {a} {things} and finds {b} more. How many {things} does {A} have now?", "{A} has {c} {things},"
         " because {a} + {b} = {c}."),
        ("There are {a} {things} in one basket and {b} in another. How many are there in all?", "There are {c}"
         " {things}, because {a} + {b} = {c}."),
    ),
    "-": (
        ("{A} has {a} {things} and gives away {b}. How many are left?", "There are {c} left, because {a} - {b} = {c}."),
        ("{a} birds sit in a tree. {b} of them fly away. How many stay?", "{c} of them stay, because {a} - {b} = {c}."),
    ),
    "*": (
        ("{A} has {a} bags with {b} {things} in each. How many {things} are there?", "There are {c} {things}, because"
         " {a} * {b} = {c}."),
    ),
}  # fmt: skip
_COUNTED = ("apples", "buttons", "stones", "pears", "shells", "books", "marbles", "feathers", "cookies", "stars")


@dataclass(frozen=True, slots=True)
class Sum:
    """`first operator second`, where `operator` is +, - or *."""

    first: int
    operator: str
    second: int

    @property
    def result(self) -> int:
        """The right answer, never negative."""
        if self.operator == "+":
            return self.first + self.second
        return self.first - self.second if self.operator == "-" else self.first * self.second


def all_sums() -> list[Sum]:
    """Return every sum that the corpus draws from."""
    terms = range(LARGEST_TERM + 1)
    factors = range(LARGEST_FACTOR + 1)
    return [
        *(Sum(a, "+", b) for a in terms for b in terms),
        *(Sum(a, "-", b) for a in terms for b in terms if b <= a),
        *(Sum(a, "*", b) for a in factors for b in factors),
    ]


def ask_sum(rng: Random) -> tuple[str, str]:
    """Return a question about one sum in a phrasing that training may see, and its answer."""
    chosen = draw_sum(rng)
    if min(chosen.first, chosen.second, chosen.result) > 1 and rng.random() < 0.15:
        slots = sum_slots(chosen) | {"A": rng.choice(words.GIRLS + words.BOYS), "things": rng.choice(_COUNTED)}
        question, answer = rng.choice(_PROBLEMS[chosen.operator])
        return expand(question, rng, slots), expand(answer, rng, slots)
    slots = sum_slots(chosen)
    return expand(rng.choice(PHRASINGS[chosen.operator]), rng, slots), expand(rng.choice(_ANSWERS), rng, slots)


def write_sums(rng: Random) -> str:
    """Return a plain document: a few sums, one a line."""
    return "\n".join(expand("{a} {op} {b} = {c}", rng, sum_slots(draw_sum(rng))) for _ in range(rng.randint(3, 12)))


def draw_sum(rng: Random) -> Sum:
    """Draw an operator and then its terms, so that the tables of all three are seen equally often."""
    operator = rng.choice("+-*")
    largest = LARGEST_FACTOR if operator == "*" else LARGEST_TERM
    first, second = rng.randint(0, largest), rng.randint(0, largest)
    if operator == "-" and second > first:
        first, second = second, first
    return Sum(first, operator, second)


def sum_slots(chosen: Sum) -> dict[str, str]:
    """Return the values of the slots that the phrasings use."""
    return {
        "a": str(chosen.first), "b": str(chosen.second), "c": str(chosen.result),
        "op": chosen.operator, "spoken": _SPOKEN[chosen.operator],
    }  # fmt: skip

"""Questions outside the domain, and answers that say so instead of inventing something."""

from random import Random

from penstock_demo.grammar import capitalise, expand

_QUESTIONS = (
    "What is the capital of {country}?", "Who is the president of {country}?", "How many people live in {country}?",
    "Where is {country}?", "Tell me about the history of {country}.", "What language do they speak in {country}?",
    "Who invented the {machine}?", "How does a {machine} work?", "How much does a {machine} cost?",
    "What is a {machine}?",
    "Write a program in {language}.", "Can you write code in {language}?", "What is {language}?",
    "Fix my {language} code.",
    "Who wrote {book}?", "What happened in {year}?", "Who won the {prize} in {year}?", "What is the news today?",
    "Explain {subject}.", "What is {subject}?", "Can you teach me {subject}?", "Tell me about {subject}.",
    "Translate this into {tongue}.", "How do you say hello in {tongue}?", "What time is it?", "What day is it today?",
    "What is the price of {goods}?", "Which {machine} should I buy?", "Can you help me with my taxes?",
    "What is the square root of {number}?", "What is {number} divided by {small}?", "How tall is the highest mountain?",
    "How far away is the moon?", "Who is the richest person in the world?", "Write an essay about {subject}.",
    "Write an email to my boss.", "Summarise this article for me.", "Is it safe to take {goods} every day?",
)  # fmt: skip
_WORDS = {
    "country": ("France", "Japan", "Brazil", "Egypt", "Canada", "Germany", "India", "Kenya", "Spain", "Peru", "Norway"),
    "machine": ("telephone", "computer", "steam engine", "bicycle", "camera", "radio", "car", "robot", "telescope"),
    "language": ("Python", "Rust", "Java", "C", "JavaScript", "Haskell"),
    "book": ("Hamlet", "the Odyssey", "Faust", "Don Quixote", "Moby Dick"),
    "prize": ("world cup", "Nobel prize", "election", "gold medal"),
    "year": ("1492", "1789", "1815", "1914", "1969", "1999", "2010", "2024"),
    "subject": ("quantum physics", "chemistry", "philosophy", "economics", "biology", "gravity", "evolution",
                "politics",
                "astronomy", "democracy", "electricity", "geometry", "photosynthesis"),
    "tongue": ("French", "Spanish", "German", "Chinese", "Latin", "Turkish"),
    "goods": ("gold", "oil", "aspirin", "vitamin C", "bread", "rice"),
    "number": ("144", "1024", "512", "625", "81", "999"),
    "small": ("3", "7", "12", "15"),
}  # fmt: skip
_ANSWERS = (
    "I do not know that. I am a very small model, and I [only know stories, small sums, and decoding|mostly tell"
    " stories].",
    "Sorry, that is [beyond me|too hard for me|not something I know]. [Ask me for a story or a small sum|Try me with a"
    " story|I know a little about decoding].",
    "I am [only a toy|just a demo model], so I cannot [answer|help with] that. [Would you like a story|Shall I tell you"
    " a story] instead?",
    "That is outside of [what I know|my small world]. I can [tell stories|do small sums] and explain [how text is"
    " decoded|decoding].",
)


def ask_beyond(rng: Random) -> tuple[str, str]:
    """Return a question that the model cannot answer, and an honest answer."""
    slots = {key: rng.choice(values) for key, values in _WORDS.items()}
    question = expand(rng.choice(_QUESTIONS), rng, slots)
    if rng.random() < 0.2:
        question = question[0].lower() + question[1:].rstrip("?.")
    return capitalise(question) if rng.random() < 0.8 else question, expand(rng.choice(_ANSWERS), rng, {})

"""The corpus is a function of its seed, and what is held out never occurs in it."""

import re
from random import Random

import pytest

from penstock_demo import decoding_questions, story_requests, sums
from penstock_demo.corpus import Document, held_out_documents, training_documents
from penstock_demo.grammar import article, expand

FIRST_OF_PHRASING = re.compile(r"\{[^}]*\}|a\(n\)")


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return training_documents(num_documents=6000)


def test_the_same_seed_gives_the_same_documents() -> None:
    assert training_documents(3, 300) == training_documents(3, 300)
    assert training_documents(3, 300) != training_documents(4, 300)


def test_held_out_documents_come_from_another_stream() -> None:
    assert held_out_documents(3, 50) != training_documents(3, 50)


@pytest.mark.parametrize(
    "phrasing",
    [
        *decoding_questions.HELD_OUT_WHAT,
        *decoding_questions.HELD_OUT_WHY,
        *story_requests.HELD_OUT_ABOUT_HERO,
        *(phrasing for group in sums.HELD_OUT_PHRASINGS.values() for phrasing in group),
    ],
)
def test_held_out_phrasings_never_occur(phrasing: str, documents: list[Document]) -> None:
    pattern = re.compile(".{1,60}".join(re.escape(fixed) for fixed in FIRST_OF_PHRASING.split(phrasing)))
    turns = [turn for document in documents for turn in re.split(r"<\|im_\w+\|>", document.text)]
    assert not [turn for turn in turns if pattern.fullmatch(turn.removeprefix("user\n").strip())]


def test_held_out_phrasings_are_not_training_phrasings() -> None:
    assert not set(decoding_questions.HELD_OUT_WHAT) & set(decoding_questions.WHAT)
    assert not set(decoding_questions.HELD_OUT_WHY) & set(decoding_questions.WHY)
    for operator, phrasings in sums.HELD_OUT_PHRASINGS.items():
        assert not set(phrasings) & set(sums.PHRASINGS[operator])


def test_every_article_fits_the_word_behind_it() -> None:
    for document in training_documents(11, 500):
        for match in re.finditer(r"\b([Aa]n?) (\w+)", document.text):
            assert match[1].lower() == article(match[2]), match[0]


def test_no_template_marks_are_left(documents: list[Document]) -> None:
    for document in documents:
        assert not re.search(r"[\[\]{}]|a\(n\)|  |\.\.|\?\.|!\.", document.text), document.text


def test_stories_have_the_promised_length(documents: list[Document]) -> None:
    lengths = sorted(len(document.text.split()) for document in documents if document.kind == "story")
    assert lengths[len(lengths) // 20] > 25
    assert 80 < lengths[len(lengths) // 2] < 180
    assert lengths[-1] < 300


def test_the_hero_of_a_requested_story_is_in_it() -> None:
    rng = Random(5)
    for _ in range(300):
        request, answer = story_requests.ask_for_story(rng)
        named = re.search(r"(?:named|called|about) ([A-Z]\w+)", request)
        assert named is None or named[1] in answer


@pytest.mark.parametrize(
    ("word", "expected"),
    [("owl", "an"), ("fox", "a"), ("honest", "an"), ("house", "a"), ("unicorn", "a"), ("Ida", "an")],
)
def test_article(word: str, expected: str) -> None:
    assert article(word) == expected


def test_expand_picks_fills_and_agrees() -> None:
    texts = {
        expand("[See|Meet] a(n) {kind}[ and a(n) [egg|nut]|].", Random(seed), {"kind": "owl"}) for seed in range(99)
    }
    assert texts == {f"{verb} an owl{rest}." for verb in ("See", "Meet") for rest in ("", " and an egg", " and a nut")}
    with pytest.raises(KeyError):
        expand("{nobody}", Random(0), {})

"""Every sum in the corpus is right."""

import re
from random import Random

from penstock_demo.sums import LARGEST_FACTOR, LARGEST_TERM, Sum, all_sums, ask_sum, write_sums

SOLVED = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")


def test_written_sums_are_right() -> None:
    rng = Random(1)
    texts = [write_sums(rng) for _ in range(200)] + [answer for _, answer in (ask_sum(rng) for _ in range(2000))]
    solved = [match for text in texts for match in SOLVED.finditer(text)]
    assert len(solved) > 1000
    for match in solved:
        assert Sum(int(match[1]), match[2], int(match[3])).result == int(match[4])


def test_an_answer_belongs_to_its_question() -> None:
    rng = Random(2)
    for _ in range(2000):
        question, answer = ask_sum(rng)
        first, second, *rest = (int(number) for number in re.findall(r"\d+", question))
        assert not rest
        results = {first + second, abs(first - second), first * second}
        assert int(re.findall(r"\d+", answer)[-1]) in results


def test_all_sums_stay_in_range() -> None:
    sums = all_sums()
    assert len(sums) == len(set(sums)) == 21 * 21 + 21 * 22 // 2 + 11 * 11
    assert all(each.result >= 0 for each in sums)
    assert max(each.first for each in sums if each.operator != "*") == LARGEST_TERM
    assert max(each.first for each in sums if each.operator == "*") == LARGEST_FACTOR

"""What rows ask for, and vocabularies: one token, less than a chunk, exactly one, one and a bit, several."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """One row's temperature and cuts."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


ASKED = (
    Asked(),
    Asked(temperature=0.0, top_k=3, top_p=0.5),
    Asked(temperature=0.7, top_k=1),
    Asked(temperature=1.5, top_k=40),
    Asked(top_k=10**9, top_p=0.3),
    Asked(top_p=0.9),
    Asked(temperature=2.0, top_p=0.999, min_p=0.02),
    Asked(temperature=0.1, min_p=0.3),
    Asked(top_k=50, top_p=0.8, min_p=0.1),
    Asked(temperature=1e-38, top_k=5),
    Asked(top_p=1e-6),
    Asked(min_p=1.0),
)

VOCABS = (1, 37, 1001, 4096, 9001)

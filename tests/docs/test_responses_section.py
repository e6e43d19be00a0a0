"""What the page tells of `/v1/responses` is what its schema takes and refuses."""

from executed_pages.page import ROOT
from executed_pages.tables import names_in, section, table_rows

from penstock_server.schemas import unsupported
from penstock_server.schemas.fields import DECODING_FIELDS
from penstock_server.schemas.responses import KNOWN, REFUSED

TEXT = section(ROOT / "docs" / "api.md", "## Responses")


def test_every_field_is_told() -> None:
    rows = table_rows(TEXT)
    told = {name for row in rows for name in names_in(row[0])} | {"priority", "cache_salt"}
    assert told - {"metadata"} | set(DECODING_FIELDS) - {"n"} == set(KNOWN)
    (shaping,) = (row for row in rows if "`temperature`" in row[0])
    assert "the fields above that shape the decoding, but for `n`" in shaping[1] and "`cache_salt`" in shaping[1]


def test_every_refused_field_is_told() -> None:
    told = TEXT.partition("Refused\nunless they ask for nothing:")[2].partition(";")[0]
    assert names_in(told) == set(REFUSED)
    assert names_in(TEXT.partition("Accepted without effect:")[2].partition("Refused")[0]) == unsupported.INERT - {
        "metadata"
    }

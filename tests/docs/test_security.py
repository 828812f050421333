"""security.md says of every driver what the red team's tests say."""

from tests.contract.test_red_team import OPEN
from tests.docs.pages import ROOT, sections
from tests.fakes.escapes import table


def test_what_each_driver_stops_is_what_the_red_team_found():
    page = (ROOT / "docs" / "explanation" / "security.md").read_text()
    written = [
        line for line in sections(page)["What each driver stops"].splitlines() if line[:1] == "|"
    ]
    assert written == list(table(OPEN))

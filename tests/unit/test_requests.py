"""Runner requests on the wire."""

import pytest

from mayfly.model.errors import Permanent
from mayfly.model.requests import RunnerRequest, decoded, encoded


def test_the_wire_format_is_this():
    assert encoded(RunnerRequest(pool="linux")) == (
        b'{"type":"runner_request","pool":"linux","version":1}'
    )


def test_a_message_comes_back_as_it_went():
    message = RunnerRequest(pool="línux")
    assert decoded(encoded(message)) == message
    assert message.subject == "línux"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{}",
        b'{"type":"something_else","pool":"linux"}',
        b'{"type":"runner_request"}',
        b'{"type":"runner_request","pool":"linux","version":2}',
        b"\xff",
    ],
)
def test_what_is_not_ours_is_refused(body: bytes):
    with pytest.raises(Permanent, match="not one of ours"):
        decoded(body)

"""Runner requests on the wire."""

import pytest

from mayfly.model.errors import Permanent
from mayfly.model.jobs import JobState
from mayfly.model.requests import LARGEST_MESSAGE, ReflectedEvent, RunnerRequest, decoded, encoded
from tests.fakes.web import job_event


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


@pytest.mark.parametrize("state", JobState)
def test_a_reflected_event_comes_back_as_it_went(state: JobState):
    message = ReflectedEvent(event=job_event(state))
    body = encoded(message)
    assert body.startswith(b'{"type":"workflow_job_event","event":{"key":[1,1],"state":')
    assert body.endswith(b',"version":1}')
    assert decoded(body) == message
    assert message.subject == "events"
    assert len(body) * 10 < LARGEST_MESSAGE


def test_a_reflected_event_of_another_version_is_refused():
    body = encoded(ReflectedEvent(event=job_event())).replace(b'"version":1}', b'"version":2}')
    with pytest.raises(Permanent, match="not one of ours"):
        decoded(body)

"""Deliveries: proven genuine over their raw bytes, then decoded to values or set aside."""

import hmac
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mayfly.github.secrets import Secret
from mayfly.github.webhook import (
    Ignored,
    InstallationChanged,
    NotJson,
    Ping,
    Starred,
    decode,
    verify,
)
from mayfly.model.errors import Permanent, Unauthentic
from mayfly.model.jobs import InstallationId, JobId, JobKey, JobState, WorkflowJobEvent

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "webhooks"
BODY = b'{"zen": "Speak like a human."}'
SECRET = b"planted-webhook-secret"


def signed(body: bytes, secret: bytes = SECRET, algorithm: str = "sha256") -> bytes:
    return f"{algorithm}={hmac.digest(secret, body, algorithm).hex()}".encode()


def fixture(name: str) -> bytes:
    path = FIXTURES / f"{name}.json"
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing")
        pytest.skip(f"GitHub's example payloads are not there: {path}")
    return path.read_bytes()


def delivery(**changes: Any) -> dict[str, Any]:
    job = {
        "id": 11,
        "run_id": 7,
        "run_attempt": 2,
        "name": "build",
        "workflow_name": "CI",
        "status": "queued",
        "conclusion": None,
        "labels": ["self-hosted", "linux"],
        "head_branch": "main",
        "html_url": "https://github.com/octo-org/octo-repo/actions/runs/7/job/11",
        "created_at": "2025-11-03T10:00:00Z",
        "started_at": "2025-11-03T10:00:01Z",
        "completed_at": None,
        "runner_name": None,
    }
    job.update(changes.pop("job", {}))
    return {
        "action": "queued",
        "workflow_job": job,
        "repository": {"name": "octo-repo", "owner": {"login": "octo-org", "type": "User"}},
        "installation": {"id": 5},
    } | changes


def decoded(payload: object, event: str = "workflow_job") -> object:
    return decode(event, "guid-1", json.dumps(payload).encode())


def job_of(payload: object) -> WorkflowJobEvent:
    event = decoded(payload)
    assert isinstance(event, WorkflowJobEvent), event
    return event


def test_a_correct_signature_is_accepted():
    verify(BODY, signed(BODY), [Secret(SECRET.decode())])


def test_either_of_two_secrets_is_accepted_while_one_is_replaced():
    for secret in (SECRET, b"the-new-one"):
        verify(BODY, signed(BODY, secret), [SECRET, b"the-new-one"])


@pytest.mark.parametrize(
    "signature",
    [
        None,
        b"",
        signed(BODY, b"another"),
        signed(BODY)[:-1],
        signed(BODY) + b"0",
        signed(BODY).removeprefix(b"sha256="),
        signed(BODY, algorithm="sha1"),
        b"sha512=" + signed(BODY).removeprefix(b"sha256="),
        "sha256=ключ".encode(),
        b"sha256=" + b"\xff" * 64,
    ],
)
def test_whatever_else_stands_in_the_header_is_unauthentic(signature):
    with pytest.raises(Unauthentic):
        verify(BODY, signature, [SECRET])


@given(st.binary())
def test_no_bytes_in_the_header_raise_anything_else(signature):
    with pytest.raises(Unauthentic):
        verify(BODY, signature, [SECRET, b"second"])


def test_one_changed_byte_of_the_body_is_noticed():
    with pytest.raises(Unauthentic):
        verify(BODY.replace(b"zen", b"Zen"), signed(BODY), [SECRET])


def test_without_secrets_and_with_an_empty_secret_nothing_is_genuine():
    for secrets in ([], [b""], [Secret("")]):
        with pytest.raises(Unauthentic):
            verify(BODY, signed(BODY, b""), secrets)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("queued", JobState.QUEUED),
        ("waiting", JobState.WAITING),
        ("in_progress", JobState.IN_PROGRESS),
        ("completed", JobState.COMPLETED),
    ],
)
def test_githubs_own_examples_are_decoded_and_the_action_decides_the_state(name, state):
    event = decode("workflow_job", "guid-1", fixture(f"workflow_job.{name}"))
    assert isinstance(event, WorkflowJobEvent)
    assert event.state is state
    assert event.delivery == "guid-1"


def test_githubs_example_of_a_queued_job_is_decoded_in_full():
    event = decode("workflow_job", "guid-1", fixture("workflow_job.queued"))
    assert event == WorkflowJobEvent(
        key=JobKey(JobId(12877621891), 1),
        state=JobState.QUEUED,
        run_id=4747967848,
        name="test",
        workflow="Env Test",
        labels=("self-hosted", "k8s"),
        installation=InstallationId(23154469),
        owner="lineville",
        owner_is_organization=False,
        repository="elastic-machines-testing",
        html_url="https://github.com/lineville/elastic-machines-testing/actions/runs/4747967848/jobs/8433573014",
        branch="main",
        conclusion=None,
        created_at=datetime(2023, 4, 19, 21, 12, 12, tzinfo=UTC),
        started_at=datetime(2023, 4, 19, 21, 12, 12, tzinfo=UTC),
        completed_at=None,
        runner_name=None,
        delivery="guid-1",
    )


def test_githubs_other_examples_are_decoded():
    assert decode("ping", "g", fixture("ping")) == Ping()
    star = decode("star", "g", fixture("star.created"))
    assert star == Starred(owner="Codertocat", repository="Hello-World", sender="Codertocat")
    changed = decode("installation", "g", fixture("installation.created"))
    assert changed == InstallationChanged(
        action="created", installation=InstallationId(957387), account="Codertocat"
    )


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_none_of_githubs_examples_is_ignored(path):
    event = decode(path.name.split(".")[0], "g", path.read_bytes())
    assert not isinstance(event, Ignored)


def test_a_job_without_an_installation_is_kept():
    assert job_of(delivery(installation=None)).installation is None


@pytest.mark.parametrize("name", [None, ""])
def test_a_job_cancelled_before_a_runner_took_it_names_no_runner(name):
    event = job_of(delivery(action="completed", job={"runner_name": name}))
    assert event.runner_name is None


def test_an_organization_is_recognised_by_either_sign():
    owner = {"login": "octo-org", "type": "Organization"}
    by_type = delivery(repository={"name": "octo-repo", "owner": owner})
    assert job_of(by_type).owner_is_organization
    assert job_of(delivery(organization={"login": "octo-org"})).owner_is_organization
    assert not job_of(delivery()).owner_is_organization


def test_a_missing_creation_time_is_replaced_by_the_start():
    event = job_of(delivery(job={"created_at": None}))
    assert event.created_at == datetime(2025, 11, 3, 10, 0, 1, tzinfo=UTC)


def test_times_are_turned_to_utc():
    event = job_of(delivery(job={"created_at": "2025-11-03T12:00:00+02:00"}))
    assert event.created_at == datetime(2025, 11, 3, 10, 0, tzinfo=UTC)
    assert event.created_at.tzinfo is UTC


@pytest.mark.parametrize(
    "payload",
    [
        delivery(action="frobnicated"),
        delivery(action=None),
        delivery(workflow_job=None),
        delivery(repository=None),
        delivery(repository={"name": "", "owner": {"login": "octo-org"}}),
        delivery(repository={"name": "octo-repo", "owner": {"login": ""}}),
        delivery(repository="octo-org/octo-repo"),
        delivery(installation={"id": "5"}),
        delivery(job={"created_at": None, "started_at": None}),
        delivery(job={"created_at": "yesterday"}),
        delivery(job={"created_at": "2025-11-03T10:00:00"}),
        delivery(job={"created_at": "0001-01-01T00:00:00+14:00"}),
        delivery(job={"labels": None}),
        delivery(job={"labels": "self-hosted"}),
        delivery(job={"labels": ["self-hosted", 3]}),
        delivery(job={"id": 2**63}),
        delivery(job={"id": 10**40}),
        delivery(job={"id": -1}),
        delivery(job={"id": True}),
        delivery(job={"run_id": None}),
        delivery(job={"run_attempt": 2**63}),
        {"action": "queued"},
        {},
        [],
        None,
        3,
    ],
)
def test_what_github_does_not_document_is_ignored_with_a_reason(payload):
    event = decoded(payload)
    assert isinstance(event, Ignored)
    assert event.event == "workflow_job"
    assert event.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"action": 1,',
        b'{"action": 1}}',
        b"[" * 30_000,
        b"[" * 100_000,
        b'{"action": 1, "workflow_job": ' + b"[" * 30_000,
        b"payload=%7B%7D",
    ],
)
@pytest.mark.parametrize("event", ["workflow_job", "ping", "star", "something_new"])
def test_a_body_that_is_not_json_is_not_acknowledged(event, body):
    with pytest.raises(NotJson) as raised:
        decode(event, "g", body)
    assert isinstance(raised.value, Permanent)


@pytest.mark.parametrize("changes", [{}, {"action": 1}])
def test_a_body_in_latin_1_is_not_json(changes):
    payload = delivery(job={"name": "café"}, **changes)
    body = json.dumps(payload, ensure_ascii=False).encode("latin-1")
    with pytest.raises(NotJson):
        decode("workflow_job", "g", body)


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=200))
def test_no_delivery_raises_anything_but_not_json(event, guid, body):
    with suppress(NotJson):
        decode(event, guid, body)


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_lists = st.lists(_leaf, max_size=3)
_json = _leaf | _lists | st.dictionaries(st.text(max_size=8), _leaf | _lists, max_size=3)


@given(st.sampled_from(sorted(delivery()["workflow_job"])), _json)
def test_any_value_in_any_field_of_a_job_is_decoded_or_ignored(field, value):
    body = json.dumps(delivery(job={field: value})).encode()
    try:
        event = decode("workflow_job", "g", body)
    except NotJson:  # NaN and lone surrogates are Python's, not JSON
        return
    assert isinstance(event, WorkflowJobEvent | Ignored)


def test_an_unknown_event_is_acknowledged_and_ignored():
    assert decoded({"action": "x"}, "something_new") == Ignored(
        event="something_new", reason="events of this name are not used"
    )


def test_only_a_new_star_is_a_question():
    star = {
        "action": "deleted",
        "repository": {"name": "octo-repo", "owner": {"login": "octo-org"}},
        "sender": {"login": "mona"},
    }
    assert isinstance(decoded(star, "star"), Ignored)
    assert decoded(star | {"action": "created"}, "star") == Starred(
        owner="octo-org", repository="octo-repo", sender="mona"
    )


def test_an_installation_of_an_enterprise_is_named_by_its_slug():
    payload = {"action": "suspend", "installation": {"id": 3, "account": {"slug": "big-corp"}}}
    assert decoded(payload, "installation") == InstallationChanged(
        action="suspend", installation=InstallationId(3), account="big-corp"
    )


def test_strange_characters_are_kept_and_nul_is_made_harmless():
    job = {"name": "a\x1b[31m\nb\0", "labels": ["self-hosted", "\0gpu", "łódź"]}
    event = job_of(delivery(job=job))
    assert event.name == "a\x1b[31m\nb\N{REPLACEMENT CHARACTER}"
    assert event.labels == ("self-hosted", "\N{REPLACEMENT CHARACTER}gpu", "łódź")


def test_an_unknown_action_is_quoted_briefly_and_printable():
    event = decoded(delivery(action="\x1b" + "x" * 1000))
    assert isinstance(event, Ignored)
    assert event.reason.isprintable()
    assert len(event.reason) < 100

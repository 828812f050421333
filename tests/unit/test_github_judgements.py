"""What GitHub said, judged: what is wrong and what to do."""

from datetime import timedelta

import msgspec
import pytest

from mayfly.github.answers import Account, App, Hook, Installation, Rate
from mayfly.github.judgements import (
    Needs,
    judge_app,
    judge_clock,
    judge_deliveries,
    judge_hook,
    judge_installations,
    judge_rates,
)
from mayfly.model.deliveries import Attempt
from mayfly.model.findings import Verdict
from tests.fakes.clocks import NOON

GRANTED = {"metadata": "read", "actions": "read", "administration": "write"}
PUSH = Needs(["metadata=read", "actions=read", "administration=write"], push=True)
PULL = PUSH._replace(push=False)
WIDE = PUSH._replace(permissions=[*PUSH.permissions, "organization_self_hosted_runners=write"])
APP = App(id=1, name="Mayfly", permissions=GRANTED, events=("workflow_job",))
HOOK = Hook(
    url="https://mayfly.example.org/webhooks/github", content_type="json", secret="********"
)


def installed(owner="octo-org", kind="Organization", **changes) -> Installation:
    found = Installation(id=1, account=Account(login=owner, type=kind), permissions=GRANTED)
    return msgspec.structs.replace(found, **changes)


def attempts(*statuses: int) -> list[Attempt]:
    """Newest first, a minute apart."""
    return [
        Attempt(n, str(n), NOON - n * timedelta(minutes=1), "workflow_job", "queued", status)
        for n, status in enumerate(statuses)
    ]


@pytest.mark.parametrize(("seconds", "verdict"), [(30, "good"), (-30, "good"), (31, "wrong")])
def test_a_clock_may_differ_by_30_seconds(seconds, verdict):
    assert judge_clock(NOON + timedelta(seconds=seconds), NOON).verdict == verdict


def test_a_wrong_clock_is_told_which_way():
    assert judge_clock(NOON, NOON + timedelta(seconds=45)).found == "45 s behind GitHub's"
    assert judge_clock(NOON, NOON - timedelta(seconds=45)).found == "45 s ahead of GitHub's"


def test_an_answer_without_a_date_proves_nothing_about_the_clock():
    assert judge_clock(NOON, None).verdict is Verdict.UNCHECKED


def test_an_app_with_everything_is_good():
    assert {finding.verdict for finding in judge_app(APP, PUSH)} == {Verdict.GOOD}


def test_a_permission_that_is_missing_or_too_small_is_named():
    small = GRANTED | {"administration": "read"}
    found, _ = judge_app(msgspec.structs.replace(APP, permissions=small), WIDE)
    assert found.verdict is Verdict.WRONG
    lacks = "the App lacks administration=write, organization_self_hosted_runners=write"
    assert found.found == lacks


def test_an_app_that_hears_of_no_job_is_wrong():
    _, event = judge_app(msgspec.structs.replace(APP, events=("push",)), PUSH)
    assert (event.check, event.verdict) == ("event", Verdict.WRONG)


def test_a_webhook_that_is_set_up_well_is_good():
    assert judge_hook(HOOK, PUSH).verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": ""}, "no active webhook"),
        ({"url": "https://mayfly.example.org/"}, "its URL is https://mayfly.example.org/"),
        ({"content_type": "form"}, "content type is form"),
        ({"secret": None}, "no secret"),
    ],
)
def test_what_keeps_deliveries_out_is_wrong(change, said):
    found = judge_hook(msgspec.structs.replace(HOOK, **change), PUSH)
    assert found.verdict is Verdict.WRONG
    assert said in found.found


@pytest.mark.parametrize("insecure", ["1", 1.0])
def test_a_certificate_nobody_verifies_is_a_warning(insecure):
    hook = msgspec.structs.replace(HOOK, insecure_ssl=insecure)
    assert judge_hook(hook, PUSH).verdict is Verdict.WARNING


def test_pull_needs_an_active_webhook_with_any_url():
    assert judge_hook(Hook(url="https://example.org/nowhere"), PULL).verdict is Verdict.GOOD
    assert judge_hook(None, PULL).verdict is Verdict.WRONG


def test_a_password_in_the_webhooks_url_is_not_shown():
    for needs in (PUSH, PULL):
        found = judge_hook(Hook(url="https://me:hidden@example.org/x?token=hidden"), needs)
        assert "example.org/x" in found.sentence
        assert "hidden" not in found.sentence


def test_a_few_failures_before_a_success_are_good():
    assert judge_deliveries(attempts(202, *[202] * 9, 502), PUSH).verdict is Verdict.GOOD


@pytest.mark.parametrize("statuses", [[502, *[202] * 50], [202, 502, 202, 502], [0]])
def test_failures_that_go_on_or_are_many_are_a_warning(statuses):
    found = judge_deliveries(attempts(*statuses), PUSH)
    assert found.verdict is Verdict.WARNING
    assert f"of the last {len(statuses)} failed" in found.found


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "secret"), (404, "proxy"), (415, "json"), (502, "reach")]
)
def test_the_status_of_the_newest_failure_tells_what_to_do(status, remedy):
    assert remedy in (judge_deliveries(attempts(status, 500), PUSH).remedy or "")


def test_failures_do_not_matter_to_pull():
    assert judge_deliveries(attempts(502, 502), PULL).verdict is Verdict.GOOD


def test_an_app_that_is_installed_nowhere_serves_nobody():
    (found,) = judge_installations([], PUSH)
    assert found.verdict is Verdict.WRONG


def test_one_suspended_owner_is_a_warning_and_the_only_one_is_wrong():
    suspended = installed("mona", suspended_at=NOON)
    served, found = judge_installations([installed(), suspended], PUSH)
    assert served.found == "1 of 2 can be served"
    assert (found.verdict, found.found) == (Verdict.WARNING, "suspended on mona")
    (alone,) = judge_installations([suspended], PUSH)
    assert alone.verdict is Verdict.WRONG


def test_owners_who_have_not_accepted_a_permission_are_named_and_counted():
    owners = [installed(f"org-{n}", permissions={**GRANTED, "actions": ""}) for n in range(7)]
    _, found = judge_installations([installed(), *owners], PUSH)
    assert found.found == (
        "actions=read is not granted by org-0, org-1, org-2, org-3, org-4 and 2 more"
    )


def test_a_personal_account_is_not_asked_for_an_organizations_permission():
    (found,) = judge_installations([installed("mona", "User")], WIDE)
    assert found.verdict is Verdict.GOOD
    (lacking,) = judge_installations([installed()], WIDE)
    assert "organization_self_hosted_runners=write is not granted" in lacking.found


def test_the_installation_with_the_least_left_decides():
    rich = Rate(limit=5000, remaining=4000, reset=0)
    poor = Rate(limit=15_000, remaining=3000, reset=int(NOON.timestamp()))
    assert judge_rates([("mona", rich)]).verdict is Verdict.GOOD
    found = judge_rates([("mona", rich), ("octo-org", poor)])
    assert found.verdict is Verdict.WARNING
    assert found.found == "3,000 of 15,000 calls left for octo-org"
    assert f"{NOON:%H:%M:%S}" in (found.remedy or "")

"""Who may call what: every route with every kind of caller."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from mayfly.model.access import AccessRule
from mayfly.model.errors import InvalidSettings
from mayfly.web.tokens import Role, Token, Tokens, new_token
from tests.fakes.web import World, world

BOOT = {"boot": "b1"}
CLAIM = "{claim}"


class Path(NamedTuple):
    """A route, what it is for, and a request that its right callers may make."""

    method: str
    path: str
    template: str
    who: str
    json: Any = None


EXECUTORS, OPERATORS, FIGURES, ANY_TOKEN, OPEN = "executors", "operators", "figures", "any", "open"
ANY_EXECUTOR = "executors of any pool"
PATHS = [
    Path("GET", "/healthz", "/healthz", OPEN),
    Path("HEAD", "/healthz", "/healthz", OPEN),
    Path("GET", "/v1/launches", "/v1/launches", OPERATORS),
    Path("GET", "/readyz", "/readyz", FIGURES),
    Path("GET", "/metrics", "/metrics", FIGURES),
    Path("GET", "/schema/openapi.json", "/schema/openapi.json", ANY_TOKEN),
    Path("POST", "/v1/pools/linux/lease", "/v1/pools/{pool}/lease", EXECUTORS, {"wait_seconds": 0}),
    Path(
        "POST",
        "/v1/pools/linux/attend",
        "/v1/pools/{pool}/attend",
        EXECUTORS,
        {"machine": "m", "boot": "b", "wait_seconds": 0},
    ),
    *(
        Path("POST", f"/v1/leases/{verb}", f"/v1/leases/{verb}", EXECUTORS, {"lease": "linux/7"})
        for verb in ("complete", "abandon")
    ),
    Path(
        "POST",
        "/v1/claims",
        "/v1/claims",
        EXECUTORS,
        {"pool": "linux", "machine": "m", "boot": "b", "key": "k"},
    ),
    *(
        Path(
            "POST",
            f"/v1/claims/{CLAIM}/{verb}",
            f"/v1/claims/{{claim_id}}/{verb}",
            EXECUTORS,
            order,
        )
        for verb, order in {
            "heartbeat": BOOT,
            "registration": BOOT,
            "registration-token": BOOT,
            "configured": {**BOOT, "generation": 1},
            "started": {**BOOT, "repository": "octo/hello", "run_id": 1, "run_attempt": 1},
            "finish": {**BOOT, "outcome": "done"},
        }.items()
    ),
    Path("GET", "/v1/releases", "/v1/releases", ANY_EXECUTOR),
    Path("GET", "/v1/jobs", "/v1/jobs", OPERATORS),
    Path("GET", "/v1/jobs/1", "/v1/jobs/{job_id}", OPERATORS),
    Path("GET", "/v1/jobs/1/explain", "/v1/jobs/{job_id}/explain", OPERATORS),
    Path("POST", "/v1/jobs/1/retry", "/v1/jobs/{job_id}/retry", OPERATORS),
    Path("GET", "/v1/stalled", "/v1/stalled", OPERATORS),
    Path("GET", "/v1/runners", "/v1/runners", OPERATORS),
    Path("GET", "/v1/runners/github", "/v1/runners/github", OPERATORS),
    Path("GET", "/v1/executors", "/v1/executors", OPERATORS),
    *(
        Path(
            "POST",
            f"/v1/executors/{verb}",
            f"/v1/executors/{verb}",
            OPERATORS,
            {"everything": True},
        )
        for verb in ("drain", "shutdown", "return")
    ),
    Path("GET", "/v1/pools", "/v1/pools", OPERATORS),
    *(
        Path(method, f"/v1/pools/linux/{verb}", f"/v1/pools/{{pool}}/{verb}", OPERATORS, order)
        for method, verb, order in (
            ("GET", "depth", None),
            ("GET", "peek", None),
            ("GET", "dead", None),
            ("POST", "drain", None),
            ("POST", "requeue", None),
            ("POST", "ring", {}),
        )
    ),
    Path("GET", "/v1/access", "/v1/access", OPERATORS),
    Path("PUT", "/v1/access", "/v1/access", OPERATORS, {"owner": "octo", "label": "linux"}),
    Path("DELETE", "/v1/access?owner=octo&label=linux", "/v1/access", OPERATORS),
    Path(
        "GET",
        "/v1/access/check?owner=octo&repository=hello&label=linux",
        "/v1/access/check",
        OPERATORS,
    ),
    Path("GET", "/v1/events", "/v1/events", OPERATORS),
]
FITTING = {
    EXECUTORS: {"executor"},
    ANY_EXECUTOR: {"executor", "stranger"},
    OPERATORS: {"operator"},
    FIGURES: {"operator", "metrics"},
    ANY_TOKEN: {"executor", "stranger", "operator", "metrics"},
    OPEN: {"none", "bad", "executor", "stranger", "operator", "metrics"},
}
CALLERS = ["none", "bad", "stranger", "executor", "operator", "metrics"]


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def ask(here: World, path: Path, headers: dict[str, str]) -> Any:
    url = path.path.replace(CLAIM, here.claim.id)
    return await here.client.request(path.method, url, json=path.json, headers=headers)


def headers_of(here: World, caller: str) -> dict[str, str]:
    if caller == "none":
        return {}
    if caller == "bad":
        return {"authorization": f"Bearer {new_token('x', Role.OPERATOR)[0]}"}
    return here.bearer(caller)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.method} {path.template}")
async def test_every_route_lets_only_its_callers_in(here: World, path: Path):
    here.app.end_waits()  # or the event stream would have no end
    await here.plane.access.grant(AccessRule(label="linux", owner="octo"))
    for caller in CALLERS:
        answer = await ask(here, path, headers_of(here, caller))
        if caller in FITTING[path.who]:
            assert answer.status_code < 300, (caller, answer.text)
            continue
        expected = 401 if caller in {"none", "bad"} else 403
        assert answer.status_code == expected, (caller, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in answer.headers) == (expected == 401)


async def test_the_matrix_names_every_route(here: World):
    answer = await here.client.get("/schema/openapi.json", headers=here.bearer("operator"))
    served = {
        (method.upper(), path)
        for path, methods in answer.json()["paths"].items()
        for method in methods
    }
    named = {(path.method, path.template) for path in PATHS}
    outside = {("HEAD", "/healthz"), ("GET", "/schema/openapi.json")}
    assert served == (named - outside) | {
        ("POST", "/webhooks/github"),
        ("POST", "/v1/tickets/redeem"),
    }


async def test_an_executor_of_another_pool_does_not_get_its_claims(here: World):
    answer = await here.client.post(
        "/v1/claims",
        json={"pool": "LINUX", "machine": "m", "boot": "b", "key": "k"},
        headers=here.bearer("stranger"),
    )
    assert answer.status_code == 403
    assert "arm64" in answer.json()["detail"]


@pytest.mark.parametrize(
    "header",
    ["Basic dTpw", "Bearer", "Bearer ", "Token mf_x", "", "Bearer é", "Bearer a b"],
)
async def test_an_unusable_header_is_answered_with_what_to_send(here: World, header: str):
    answer = await here.client.get(
        "/v1/jobs", headers=[(b"authorization", header.encode("latin-1"))]
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "token" in answer.json()["detail"].lower()


async def test_two_authorization_headers_are_refused(here: World):
    right = here.bearer("operator")["authorization"].encode()
    headers = [(b"authorization", right), (b"authorization", right)]
    assert (await here.client.get("/v1/jobs", headers=headers)).status_code == 401


async def test_the_body_of_an_unknown_caller_is_not_looked_at(here: World):
    answer = await here.client.post("/v1/claims", content=b"not json")
    assert answer.status_code == 401


def test_a_new_token_is_found_by_its_secret_only():
    plain, token = new_token("board-7", Role.EXECUTOR, ("linux",))
    tokens = Tokens([token])
    assert plain.startswith("mf_")
    assert plain not in str(token)
    assert tokens.find(plain.encode()) == token
    assert tokens.find(token.sha256.encode()) is None
    assert tokens.find(b"") is None
    assert tokens.find(plain.encode()[:-1]) is None


def test_two_new_tokens_differ():
    assert new_token("a", Role.OPERATOR)[0] != new_token("a", Role.OPERATOR)[0]


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ([Token(name="a", sha256="12", role=Role.OPERATOR)], "64 hexadecimal digits"),
        ([Token(name="a", sha256="z" * 64, role=Role.OPERATOR)], "64 hexadecimal digits"),
        ([Token(name="", sha256="0" * 64, role=Role.OPERATOR)], "printable text"),
        ([Token(name=" ", sha256="0" * 64, role=Role.OPERATOR)], "printable text"),
        ([Token(name="a\nb", sha256="0" * 64, role=Role.OPERATOR)], "printable text"),
        ([Token(name="a\x1b[31m", sha256="0" * 64, role=Role.OPERATOR)], "printable text"),
        (
            [Token(name="a", sha256="0" * 64, role=Role.EXECUTOR, pools=("linux", ""))],
            "a name in pools is empty",
        ),
        ([Token(name="a", sha256="0" * 64, role=Role.EXECUTOR)], "names its pools"),
        (
            [Token(name="a", sha256="0" * 64, role=Role.METRICS, pools=("linux",))],
            "for role executor only",
        ),
        ([Token(name="a", sha256="0" * 64, role=Role.OPERATOR)] * 2, "declared twice"),
    ],
)
def test_unusable_tokens_are_refused_at_start(tokens: list[Token], sentence: str):
    with pytest.raises(InvalidSettings, match=sentence):
        Tokens(tokens)

"""What GitHub answers, as far as it is used; decoded at the edge."""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from mayfly.github.records import Id, Time
from mayfly.model.errors import GitHubUnreachable
from mayfly.model.jobs import InstallationId
from mayfly.model.releases import Offer, version_in
from mayfly.model.repositories import Run
from mayfly.model.runners import GitHubRunner

_T = TypeVar("_T")

# It becomes part of a header; a line break in it would end up in the text of an exception.
TokenText = Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]+\Z", max_length=4096)]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A user, an organization or an enterprise."""

    login: str = ""
    slug: str = ""
    type: str = ""


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """The App on one account."""

    id: Id
    account: Account | None = None
    target_type: str = ""
    permissions: dict[str, str] = {}
    suspended_at: datetime | None = None

    @property
    def installation(self) -> InstallationId:
        """Its id."""
        return InstallationId(self.id)

    @property
    def owner(self) -> str:
        """The login of the account, or the slug of an enterprise."""
        return "" if self.account is None else self.account.login or self.account.slug

    @property
    def on_organization(self) -> bool:
        """Whether organization-level runners can exist."""
        kinds = {self.target_type, "" if self.account is None else self.account.type}
        return "Organization" in kinds


class App(msgspec.Struct, frozen=True, kw_only=True):
    """The App as GitHub knows it."""

    id: Id
    name: str
    slug: str = ""
    client_id: str = ""
    html_url: str = ""
    permissions: dict[str, str] = {}
    events: tuple[str, ...] = ()


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """How the App's webhook is set up."""

    url: str = ""
    content_type: str = "form"
    secret: str | None = None
    """Masked; None when there is none."""
    insecure_ssl: str | float = "0"

    def __repr__(self) -> str:
        return f"Hook(content_type={self.content_type!r}, …)"


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """An hourly limit and what is left of it."""

    limit: int
    remaining: int
    reset: Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
    """Seconds since 1970."""

    @property
    def share(self) -> float:
        """The part that is left, 0 to 1."""
        return self.remaining / self.limit if self.limit else 1.0


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The hourly limits by what counts on them."""

    core: Rate


class RatePage(msgspec.Struct, frozen=True, kw_only=True):
    """All limits of whoever asks."""

    resources: Rates


class RepositoryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A repository an installation may see."""

    full_name: str
    owner: Account
    name: str
    fork: bool = False
    private: bool = True


class HeadRepository(msgspec.Struct, frozen=True, kw_only=True):
    """Where the commit of a run comes from; a fork is not to be trusted with more than its own."""

    full_name: str
    fork: bool = False


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow run: it knows the event and the fork, which its jobs do not."""

    id: Id
    run_attempt: int = 1
    event: str = ""
    status: str | None = None
    conclusion: str | None = None
    head_repository: HeadRepository | None = None
    actor: Account | None = None
    triggering_actor: Account | None = None
    updated_at: Time

    @property
    def run(self) -> Run:
        """The same, as the port says it."""
        return Run(self.id, self.run_attempt, self.updated_at.astimezone(UTC))


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """An installation token, or a runner's registration token."""

    token: TokenText
    expires_at: Time
    permissions: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"IssuedToken(token=…, expires_at={self.expires_at})"


class Label(msgspec.Struct, frozen=True):
    """A label of a runner."""

    name: str


class RunnerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A runner as GitHub lists it."""

    id: Id
    name: str
    status: str = ""
    busy: bool = False
    labels: tuple[Label, ...] = ()
    version: str | None = None

    @property
    def runner(self) -> GitHubRunner:
        """The same, as the port says it."""
        labels = tuple(label.name for label in self.labels)
        version = version_in(self.version or "")
        return GitHubRunner(self.id, self.name, self.status, self.busy, labels, version)


class RunnerApplication(msgspec.Struct, frozen=True, kw_only=True):
    """The runner's program for one kind of machine, as GitHub offers it."""

    os: str
    architecture: str
    download_url: str
    filename: str
    """As in `actions-runner-linux-x64-2.330.0.tar.gz`."""
    sha256_checksum: str | None = None
    temp_download_token: str | None = None

    @property
    def offer(self) -> Offer:
        """The same in our words."""
        return Offer(
            os=self.os,
            architecture=self.architecture,
            filename=self.filename,
            url=self.download_url,
            sha256=self.sha256_checksum or None,
            token=self.temp_download_token or None,
        )


class JitConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A freshly minted registration."""

    runner: RunnerRecord
    encoded_jit_config: Annotated[str, msgspec.Meta(min_length=1)]

    def __repr__(self) -> str:
        return f"JitConfig(runner={self.runner.name!r}, encoded_jit_config=…)"


def read(data: object, kind: type[_T], what: str) -> _T:
    """`data` as a `kind`; GitHubUnreachable when GitHub's answer to `what` has another shape."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise GitHubUnreachable(
            f"could not {what}: the answer is not as GitHub documents it ({error}); "
            "is api_url the address of GitHub's API?"
        ) from error

"""Access rules in Azure Cosmos DB: documents of owners who have other tools for them as well."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Annotated

import msgspec
import structlog

from mayfly.model.access import GITHUB_NAME, AccessRule, Identity, by_identity, first_allowing
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.ports import AccessRules, Clock
from mayfly.store.cosmos_account import Account, Denied, Document, Missing, open_account

FRESH = timedelta(seconds=10)
"""How far behind others' changes a decision may be. Webhooks cost nothing that way: the account
is asked two questions, of some 3 request units each, at most 9 times a minute."""
LONGEST = timedelta(seconds=60)
"""The same while the account does not answer: a hiccup holds nobody up, and whoever lost access
gets nothing by keeping the account away from us any longer."""
ASK_AGAIN = timedelta(seconds=5)
"""After the account did not answer; who asks meanwhile does not wait to hear it once more."""
WAIT = timedelta(seconds=2)
"""For a decision; GitHub gives up a webhook that is not answered within 10 s. A slower reading goes
on, and who asks while it does goes by the last one, or is pending a check, without waiting."""
AT_START = timedelta(seconds=10)
"""For the first reading: an account that is slow keeps no control plane from starting."""

_Name = Annotated[str, msgspec.Meta(pattern=rf"\A{GITHUB_NAME.pattern}\Z")]
_Label = Annotated[str, msgspec.Meta(min_length=1)]

log = structlog.get_logger("mayfly")


class AllowOwner(msgspec.Struct, frozen=True):
    """A document of the container of this name; it may have more fields."""

    owner: _Name
    label: _Label

    @property
    def rule(self) -> AccessRule:
        """What it says."""
        return AccessRule(label=self.label, owner=self.owner)


class AllowRepository(msgspec.Struct, frozen=True):
    """A document of the container of this name; it may have more fields."""

    owner: _Name
    repo: _Name
    label: _Label

    @property
    def rule(self) -> AccessRule:
        """What it says."""
        return AccessRule(label=self.label, owner=self.owner, repository=self.repo)


_KINDS: dict[str, type[AllowOwner | AllowRepository]] = {
    "AllowOwner": AllowOwner,
    "AllowRepository": AllowRepository,
}


@contextlib.asynccontextmanager
async def open_access_rules(
    url: str, clock: Clock, *, database: str, key: str | None
) -> AsyncIterator[AccessRules]:
    """The rules in a database of the account at `url`, read once to see that they can be."""
    async with open_account(url, database, key) as account:
        rules = CosmosAccessRules(account, clock)
        # What is not known yet is said, and jobs are pending a check meanwhile.
        with contextlib.suppress(Transient, TimeoutError):
            try:
                async with asyncio.timeout(AT_START.total_seconds()):
                    await rules.rules()
            except Denied as error:
                raise InvalidSettings(str(error)) from error
        try:
            yield rules
        finally:
            await rules.close()


class CosmosAccessRules:
    """Rules as documents, with a snapshot so that a webhook costs no query."""

    def __init__(self, account: Account, clock: Clock, wait: timedelta = WAIT) -> None:
        self._account = account
        self._clock = clock
        self._wait = wait
        self._snapshot: dict[Identity, AccessRule] = {}
        self._read_at: datetime | None = None
        self._changes = 0
        self._reading = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_slow = False
        self._trouble: tuple[datetime, str] | None = None
        self._said: set[str] = set()

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        if not self._is_younger(FRESH):
            await self._refresh()
        return first_allowing(self._snapshot, owner, repository, label)

    async def rules(self) -> list[AccessRule]:
        async with self._reading:
            await self._read()
            return sorted(self._snapshot.values(), key=str)

    async def grant(self, rule: AccessRule) -> None:
        async with self._changing():
            if rule.identity not in by_identity(await self.rules()):
                await self._account.create(_container_of(rule), _document(rule))

    async def revoke(self, rule: AccessRule) -> bool:
        container = _container_of(rule)
        async with self._changing():
            try:
                found = await self._account.query(
                    container,
                    "SELECT * FROM c WHERE LOWER(c.owner) = @owner",
                    owner=rule.owner.lower(),
                )
            except Missing:
                return False
            rules = [(document, self._rule_in(document, container)) for document in found]
            same = [one for one, its in rules if its and its.identity == rule.identity]
            for document in same:
                await self._account.delete(container, document)
            return bool(same)

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """A change of our own is seen at once, whatever became of it."""
        try:
            yield
        finally:
            self._read_at, self._changes = None, self._changes + 1

    async def close(self) -> None:
        """Nothing is asked of the account any more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def _refresh(self) -> None:
        """Transient when the rules are too old and cannot be read now."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait.total_seconds()
        while not self._is_younger(FRESH) and not self._is_in_trouble():
            task = self._refreshing  # those that come together ask once
            if task is None or task.done():
                task = self._refreshing = asyncio.create_task(self._read_anew())
                self._is_slow = False
            if not self._is_slow:
                await asyncio.wait([task], timeout=max(0.0, until - loop.time()))
            if not task.done():
                self._is_slow = True
                break
            task.result()
        if not self._is_younger(LONGEST):
            slow = f"the access rules were not read within {self._wait.total_seconds():.0f} s"
            raise Transient(self._trouble[1] if self._trouble else slow)

    async def _read_anew(self) -> None:
        async with self._reading:
            if not self._is_younger(FRESH):  # or somebody else has been faster
                with contextlib.suppress(Transient):  # it is kept as the trouble
                    await self._read()

    def _is_in_trouble(self) -> bool:
        return self._trouble is not None and self._clock.now() - self._trouble[0] < ASK_AGAIN

    async def _read(self) -> None:
        asked, changes = self._clock.now(), self._changes
        try:
            found = await self._all_rules()
        except Transient as error:
            if self._trouble is None:
                log.warning("rules.unread", reason=str(error))
            self._trouble = self._clock.now(), str(error)
            raise
        self._snapshot, self._trouble = by_identity(found), None
        self._read_at = asked if changes == self._changes else None  # else it may be too old

    async def _all_rules(self) -> list[AccessRule]:
        """Both containers are asked at once, so that a slow account is not waited for twice."""
        answers = await asyncio.gather(*map(self._rules_of, _KINDS), return_exceptions=True)
        rules: list[AccessRule] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            rules += answer
        return rules

    async def _rules_of(self, container: str) -> list[AccessRule]:
        query = "SELECT c.id, c.owner, c.repo, c.label FROM c"
        try:
            documents = await self._account.query(container, query)
        except Missing as error:
            if self._is_unsaid(container):
                log.warning("container.missing", reason=str(error))
            return []
        self._said.discard(container)
        rules = (self._rule_in(document, container) for document in documents)
        return [rule for rule in rules if rule is not None]

    def _rule_in(self, document: Document, container: str) -> AccessRule | None:
        """None for what is no rule; an AllowRepository without `repo` must not allow more."""
        try:
            return msgspec.convert(document, _KINDS[container]).rule
        except msgspec.ValidationError as error:
            place = f"{container}/{document.get('id')}"
            if self._is_unsaid(place):
                log.warning("rule.skipped", document=place, reason=str(error))
            return None

    def _is_unsaid(self, place: str) -> bool:
        """Once for each place."""
        unsaid = place not in self._said
        self._said.add(place)
        return unsaid

    def _is_younger(self, age: timedelta) -> bool:
        return self._read_at is not None and self._clock.now() - self._read_at <= age


def _container_of(rule: AccessRule) -> str:
    return "AllowOwner" if rule.covers_owner else "AllowRepository"


def _document(rule: AccessRule) -> Document:
    """The same for the same rule in any case, so that two who grant it make one document."""
    label, owner, repository = rule.identity
    words = "/".join((owner, repository or "", label))
    document = {"owner": rule.owner, "repo": rule.repository, "label": rule.label}
    return {
        "id": blake2b(words.encode(), digest_size=16).hexdigest(),
        **{name: value for name, value in document.items() if value is not None},
    }

"""Access rules of mayfly.toml, read-only, laid over the rules of the store."""

import msgspec

from mayfly.model.access import AccessRule, by_identity, first_allowing
from mayfly.model.errors import Permanent
from mayfly.ports import AccessRules


class DeclaredAccessRules:
    """The declared rules first, then those `beneath`; only the latter can change."""

    def __init__(self, declared: tuple[AccessRule, ...], beneath: AccessRules) -> None:
        self._declared = by_identity(
            msgspec.structs.replace(rule, declared=True) for rule in declared
        )
        self._beneath = beneath

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        return first_allowing(self._declared, owner, repository, label) or (
            await self._beneath.find(owner, repository, label)
        )

    async def rules(self) -> list[AccessRule]:
        return sorted([*self._declared.values(), *await self._beneath.rules()], key=str)

    async def grant(self, rule: AccessRule) -> None:
        self._refuse_declared(rule)
        await self._beneath.grant(rule)

    async def revoke(self, rule: AccessRule) -> bool:
        self._refuse_declared(rule)
        return await self._beneath.revoke(rule)

    def _refuse_declared(self, rule: AccessRule) -> None:
        if rule.identity in self._declared:
            raise Permanent(
                f"{rule.subject} → {rule.label} is declared in mayfly.toml; change it there"
            )


class NoRules:
    """Where nothing is kept beneath the declared rules: an edge reflector has no ledger."""

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        del owner, repository, label
        return None

    async def rules(self) -> list[AccessRule]:
        return []

    async def grant(self, rule: AccessRule) -> None:
        raise Permanent(f"{rule.subject} → {rule.label} cannot be granted: no rules are kept here")

    async def revoke(self, rule: AccessRule) -> bool:
        del rule
        return False

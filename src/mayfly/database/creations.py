"""A PostgreSQL database for a while: made on the server of another one's address, and dropped."""

import asyncpg

from mayfly.database import servers
from mayfly.database.addresses import parsed, place_of
from mayfly.model.errors import InvalidSettings


class NewDatabase:
    """One that is called `name`: letters, digits and `_`, and nobody else's."""

    def __init__(self, url: str, name: str) -> None:
        address = parsed(url)
        if address.get_backend_name() != "postgresql":
            raise InvalidSettings(
                "the address is not one of PostgreSQL; use "
                "postgresql://USER:PASSWORD@HOST:PORT/NAME"
            )
        self._server = servers.Server(address)
        self._name = name
        new = address.set(database=name)
        self.url = new.render_as_string(hide_password=False)
        self.place = place_of(new)

    async def create(self) -> None:
        """Empty, whatever is in the server's own template."""
        await self._done(f"CREATE DATABASE {self._name} TEMPLATE template0")

    async def drop(self) -> None:
        """Whoever is connected to it is cut off; nothing is wrong when it is not there."""
        await self._done(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")

    async def _done(self, statement: str) -> None:
        try:
            connection = await self._server.connect()
            try:
                await connection.execute(statement)
            finally:
                await connection.close()
        except asyncpg.InsufficientPrivilegeError as error:
            raise InvalidSettings(
                f"the database {self.place} may not be made: {error}; "
                "ALTER ROLE … CREATEDB gives its user the right"
            ) from error
        except servers.ERRORS as error:
            raise self._server.unusable(error) from error

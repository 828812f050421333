"""Token mode: a program of the operator registers the runner here, and its settings travel.

It is given a registration token, which registers any number of runners for an hour; so it runs as
an unprivileged user in a private directory, and nothing but the files it was to write leaves that.
"""

import base64
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

from mayfly.drivers import jitconfig, workplaces
from mayfly.drivers.accounts import Account
from mayfly.drivers.programs import Private, Programs, sentence
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.protocol import Entrusted

log = logging.getLogger(__name__)

VARIABLE = "ACTIONS_RUNNER_INPUT_TOKEN"
"""Where GitHub's own `config.sh` finds its `--token`, and forgets it."""
PLACEHOLDERS = ("{name}", "{labels}", "{url}", "{token_file}")
_FILE = "{token_file}"
_PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
_LARGEST = 32 * 1024


class TokenDelivery(StrEnum):
    """How the configure program gets its registration token; never as an argument."""

    STDIN = "stdin"
    FILE = "file"
    """A file named by `{token_file}`, its user's alone; gone when it was opened, or after 10 s."""
    ENVIRONMENT = "environment"
    """`ACTIONS_RUNNER_INPUT_TOKEN`: any process of the same user can read it in /proc."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runner.configure]`: the program that registers a runner, and what it leaves."""

    command: tuple[str, ...]
    """Its words. `{name}`, `{labels}` (with commas) and `{url}` are filled in; no shell sees it."""
    files: tuple[str, ...]
    """Names of the files it writes into its directory that travel to the board, all of them."""
    token: TokenDelivery = TokenDelivery.STDIN
    """How it gets the registration token."""
    template: Path | None = None
    """A directory whose content its private directory has, as `config.sh` needs its own program."""
    run_as: str | None = None
    """Its user; `{slot}` in it is the executor's slot. Default as root: mayfly-runner-SLOT,
    mayfly-runner or nobody, the first that exists. Otherwise the executor's own."""
    seconds: float = 120.0
    """How long it may take; shorter than `[deadlines] minting_seconds` of the control plane."""


class Configuring:
    """Runs the program, one at a time, and leaves nothing."""

    def __init__(
        self, settings: Settings, home: Path, account: Account, programs: Programs
    ) -> None:
        self._settings = settings
        self._home = home
        self._account = account
        self._programs = programs
        self.token_spent = True
        """Whether no process that was given a token is left."""

    async def registered(self, order: Entrusted) -> str:
        """The settings files, packed as a JIT config is. Permanent with a sentence."""
        settings, self.token_spent = self._settings, False
        with _as_permanent(f"cannot prepare {self._home}"):
            place = await workplaces.fresh(self._home, self._account, settings.template)
        try:
            with ExitStack() as stack:
                command, text, variables = self._given(order, place, stack)
                ended = await self._programs.ended(
                    command,
                    given=text,
                    within=settings.seconds,
                    private=Private(place, self._account, variables),
                    secrets=(order.token,),
                )
            if ended.exit_code != 0:
                raise Permanent(sentence("configure.command", settings.command, ended))
            log.info("runner.configured runner=%s", order.name)
            return _packed({name: _content(place, name) for name in settings.files})
        finally:
            self.token_spent = self._programs.orderly
            await self.cleared()

    async def cleared(self) -> None:
        """No directory of this or of an earlier program is left, nor a process in one."""
        for place in workplaces.left(self._home):
            if strays := workplaces.kill_strays(place, self._account):
                log.warning("processes.killed count=%d directory=%s", strays, place)
            await workplaces.remove(place)

    def _given(
        self, order: Entrusted, place: Path, stack: ExitStack
    ) -> tuple[tuple[str, ...], str, dict[str, str]]:
        """The program's words, its standard input, and the variables of its own."""
        words = {"{name}": order.name, "{labels}": ",".join(order.labels), "{url}": order.url}
        environment = {"HOME": str(place), "TMPDIR": str(place / "tmp")}
        text = ""
        match self._settings.token:
            case TokenDelivery.STDIN:
                text = f"{order.token}\n"
            case TokenDelivery.FILE:
                passing = jitconfig.passing_file(order.token, place, self._account)
                words[_FILE] = str(stack.enter_context(passing))
            case TokenDelivery.ENVIRONMENT:
                environment[VARIABLE] = order.token
        command = tuple(
            _PLACEHOLDER.sub(lambda found: words[found[0]], word) for word in self._settings.command
        )
        return command, text, environment


def check(settings: Settings) -> None:
    """InvalidSettings when they could never register anything."""
    if not settings.command or not settings.command[0].startswith("/"):
        raise InvalidSettings(
            'configure.command needs a program with its whole path, as in ["/opt/…", "configure"]'
        )
    if settings.template is not None and not settings.template.is_dir():
        raise InvalidSettings(f"configure.template {settings.template} is not a directory")
    named = {found for word in settings.command for found in _PLACEHOLDER.findall(word)}
    if unknown := sorted(named - set(PLACEHOLDERS)):
        raise InvalidSettings(
            f"configure.command names {unknown[0]}; there are {', '.join(PLACEHOLDERS)}, and the "
            "token itself is never an argument"
        )
    if (_FILE in named) != (settings.token is TokenDelivery.FILE):
        raise InvalidSettings(
            f'configure.token = "{settings.token}": {_FILE} belongs into the command when, and '
            'only when, token = "file"'
        )
    if not settings.files:
        raise InvalidSettings(
            'configure.files is empty; name what travels, as in ["settings.json"]'
        )
    if paths := [name for name in settings.files if name in {"", ".", ".."} or "/" in name]:
        raise InvalidSettings(f"configure.files: {paths[0]!r} is not the name of a file")
    if settings.seconds <= 0:
        raise InvalidSettings(f"configure.seconds is {settings.seconds}; it must be positive")


def _content(place: Path, name: str) -> bytes:
    """A file that an unprivileged program has left; what it links to is nothing of its own."""
    missing = f"configure.command ended with 0, but left no file {name} in its directory"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(place / name, flags), "rb") as file:  # noqa: PTH123 - opens a descriptor, not a path
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise Permanent(missing)
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise Permanent(f"{missing}: {error.strerror}") from error
    if not content or len(content) > _LARGEST:
        raise Permanent(
            f"configure.command left {found.st_size} bytes in {name}, expected 1 to {_LARGEST}"
        )
    return content


def _packed(files: dict[str, bytes]) -> str:
    texts = {name: base64.b64encode(content).decode() for name, content in files.items()}
    return jitconfig.checked(base64.b64encode(msgspec.json.encode(texts)).decode())


@contextmanager
def _as_permanent(what: str) -> Iterator[None]:
    """A full disk or a read-only one: a person has to act."""
    try:
        yield
    except OSError as error:
        raise Permanent(f"{what}: {error}") from error

"""The made-up board farm of run-a-board-farm.md: its programs run as they stand on the page."""

import base64
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers.command import Settings, open_driver
from mayfly.drivers.runs import SEARCH_PATH
from mayfly.model.errors import Permanent
from mayfly.model.protocol import Entrusted, Granted, Outcome
from mayfly.ports import TokenDriver
from tests.docs.pages import ROOT, fenced
from tests.fakes.runner_programs import FILES, Admission, claim, jit_config, stage

PAGE = (ROOT / "docs" / "how-to" / "run-a-board-farm.md").read_text()
_PROGRAMS = re.compile(r"^`(/[^`]+)`[^\n]*:\n\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# As ssh: its words become a line of the shell there; nobody answers when the board is off.
SSH = """\
#!/bin/sh
while [ "$1" != runner@board-0 ]; do shift; done
shift 2
[ "$(cat {farm}/board-0/outlet)" = on ] || exit 255
RUNNER={farm}/board-0/root exec sh -c "$*"
"""
SH = ("#!/bin/sh\n", "")
LISTENER = "#!/bin/sh\nstat -c %a .credentials_rsaparams; cat; exit 7\n"


@pytest.fixture
def farm() -> Iterator[Path]:
    with stage() as made:
        root = made.home.parents[1]  # the configure program's user can reach it
        for variant in ("plain", "debug"):
            _program(root / "roots" / variant / "bin" / "Runner.Listener", LISTENER)
        (root / "board-0").mkdir()
        _program(root / "bin" / "ssh", SSH.format(farm=root))
        for path, text in _PROGRAMS.findall(PAGE):
            _program(root / path[1:], text.replace("/etc/", f"{root}/etc/"))
        yield root


def settings(farm: Path, *, token_mode: bool = False) -> Settings:
    """Those of the page, for a farm in this directory."""
    usual, configure = fenced(PAGE, "toml")
    file = usual + configure if token_mode else usual
    text = re.sub(r'"(/(?:etc|opt)/)', rf'"{farm}\1', file).replace("/srv/farm", str(farm))
    written = msgspec.convert(tomllib.loads(text)["runner"], Settings)
    search = {"PATH": f"{farm}/bin:{SEARCH_PATH}"}
    return msgspec.structs.replace(written, environment=written.environment | search)


def of_variant(variant: str | None) -> Granted:
    return msgspec.structs.replace(claim(), variant=variant)


@pytest.mark.parametrize(("variant", "root"), [(None, "plain"), ("debug", "debug")])
async def test_a_job_runs_on_a_board_of_the_farm(farm: Path, variant: str | None, root: str):
    slot = farm / "0"
    slot.mkdir()
    outlet = farm / "board-0" / "outlet"
    async with open_driver(settings(farm), slot, Admission(None)) as driver:
        await driver.prepare(of_variant(variant))
        assert outlet.read_text() == "on\n"
        finished = await driver.run("r", jit_config())
        await driver.cleanup()
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 7)
    booted = farm / "roots" / root
    assert {name: (booted / name).read_text() for name in FILES} == FILES
    assert (booted / "runner.log").read_text() == "600\n"
    assert outlet.read_text() == "off\n"


async def test_a_runner_is_registered_by_the_page_s_configure_program(farm: Path):
    slot = farm / "0"
    slot.mkdir()
    _program(farm / "bin" / "github-act-runner", 'printf "%s\\n" "$@" >settings.json\n'.join(SH))
    order = Entrusted(name="n", generation=1, labels=("a", "b c"), url="https://g/o/r", token="T")
    async with open_driver(settings(farm, token_mode=True), slot, Admission(None)) as driver:
        assert isinstance(driver, TokenDriver)
        packed = json.loads(base64.b64decode(await driver.configure(order)))
    (written,) = packed.values()
    words = base64.b64decode(written).decode().splitlines()
    assert words[0] == "configure"
    assert {"--ephemeral", "--no-default-labels"} < set(words)
    given = dict(zip(words[4::2], words[5::2], strict=True))
    assert given == {
        "--name": "n", "--system-labels": "a,b c", "--url": "https://g/o/r", "--token": "T"
    }  # fmt: skip


async def test_a_variant_the_farm_does_not_have_is_refused_with_a_sentence(farm: Path):
    slot = farm / "0"
    slot.mkdir()
    strange = "$(touch was-here); *"
    async with open_driver(settings(farm), slot, Admission(None)) as driver:
        with pytest.raises(Permanent, match=re.escape(f"no root file system for '{strange}'")):
            await driver.prepare(of_variant(strange))


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)

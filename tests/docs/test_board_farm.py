"""The made-up board farm of run-a-board-farm.md: its programs run as they stand on the page."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers.command import Settings, open_driver
from mayfly.drivers.runs import SEARCH_PATH
from mayfly.model.errors import Permanent
from mayfly.model.protocol import Granted, Outcome
from tests.docs.pages import ROOT, fenced
from tests.fakes.runner_programs import FILES, Admission, claim, jit_config

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
LISTENER = "#!/bin/sh\nstat -c %a .credentials_rsaparams; cat; exit 7\n"


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    for variant in ("plain", "debug"):
        _program(tmp_path / "roots" / variant / "bin" / "Runner.Listener", LISTENER)
    (tmp_path / "board-0").mkdir()
    _program(tmp_path / "bin" / "ssh", SSH.format(farm=tmp_path))
    for path, text in _PROGRAMS.findall(PAGE):
        _program(tmp_path / path[1:], text.replace("/etc/", f"{tmp_path}/etc/"))
    return tmp_path


def settings(farm: Path) -> Settings:
    """Those of the page, for a farm in this directory."""
    (file,) = fenced(PAGE, "toml")
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

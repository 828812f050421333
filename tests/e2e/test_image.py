"""deploy/image: an image of nothing but Debian's packages, and a job that runs in it."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mayfly.cli.environment import decoded, path_hook
from mayfly.cli.executing import File
from mayfly.drivers import process
from tests.docs.pages import fenced
from tests.e2e.images import BUILD, IMAGE, ROOT, Images, arguments, opened_images
from tests.e2e.planted import found_in, planted
from tests.e2e.runner_archive import VERSION, Archive, written
from tests.e2e.stage import Stage

NAME = "localhost/mayfly-executor:test"
OTHER = "localhost/team:test"
HOW_TO = ROOT / "docs" / "how-to" / "build-an-executor-image.md"
UNPINNED = "docker.io/library/debian:bookworm-slim"
PINNED = f"{UNPINNED}@sha256:{'0' * 64}"
# Everything a job may find is printed, so that the test can look for what it must not.
SEE = """
readable() { tr -c '[:print:]' '\\n' | head -c 1000000; }
echo "## who I am"; id
grep -E 'NoNewPrivs|CapEff' /proc/self/status
echo "## environments"; cat /proc/[0-9]*/environ 2>/dev/null | readable
for each in /proc/[0-9]*; do
  [ -O "$each" ] || { head -c 1 "$each/environ" || echo "closed environment"
    dd if="$each/mem" bs=1 count=1 || echo "closed memory"; } 2>/dev/null
done
echo "## arguments"; cat /proc/[0-9]*/cmdline | readable
echo "## files"; find / -xdev -type f -readable -newer /opt/canary -size -400k \\
  -not -path '/proc/*' -not -path '/sys/*' -exec cat {} + 2>/dev/null | readable
cat /etc/mayfly/* /etc/mayfly/executor-token /run/secrets/* 2>/dev/null | readable
cat /opt/shown
echo "## the end"
"""


@pytest.fixture
def runner(tmp_path: Path) -> Archive:
    return written(tmp_path)


def refused(*words: str) -> str:
    """What the build says, before it has built anything."""
    ran = subprocess.run([BUILD, *words], capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 2, ran
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1, "one sentence"
    return ran.stderr


def test_a_build_without_a_runner_says_what_is_missing():
    assert "say which runner" in refused("--runner-version", VERSION)


def test_an_archive_that_is_not_what_github_announced_is_refused(runner: Archive):
    other = runner._replace(sha256="0" * 64)
    assert "does not have that SHA-256" in refused(*arguments(other))


def test_a_base_by_a_tag_is_refused_because_a_tag_may_change(runner: Archive):
    assert "has no digest" in refused(*arguments(runner), "--base", UNPINNED)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runner-version", "v2"], "is not a version"),
        (["--runner-sha256", "ABC"], "is not 64 hexadecimal digits"),
        (["--runner", "/nowhere"], "there is no file /nowhere"),
        (["--base", PINNED, "--rootfs", "base.tar"], "leave it or --base out"),
        (["--epoch", "today"], "--epoch is not a number"),
        (["--tag"], "--tag needs a value"),
        (["--push"], "there is no option --push"),
    ],
)
def test_a_build_refuses_what_it_cannot_use(runner: Archive, words: list[str], said: str):
    assert said in refused(*arguments(runner), *words)


@pytest.mark.image
@pytest.mark.root
@pytest.mark.timeout(900)
async def test_the_image_of_an_executor(
    own_stage: Stage,
    runner: Archive,
    tmp_path: Path,
    subtests: pytest.Subtests,
    record_property: Any,
):
    """One image for all of it, because to build one takes as long as many other tests."""
    with opened_images() as images:
        # In a thread, because the simulator of the stage goes on meanwhile.
        await asyncio.to_thread(images.build, NAME, runner)
        first = images.inspected(NAME)
        with subtests.test("a job runs in it and sees no secret of the executor"):
            await a_job_runs_and_sees_no_secret(own_stage, images, tmp_path)
        with subtests.test("its bill of materials is complete and valid"):
            components = a_bill_of_materials_is_complete_and_valid(images, first)
            record_property("image", f"{first['Size'] / 2**20:.0f} MiB, {components} components")
        with subtests.test("an image made of it is found and tells what was added"):
            await asyncio.to_thread(
                an_image_made_of_it_is_found_and_tells_what_was_added, images, tmp_path
            )
        with subtests.test("built again, it has the same digest"):
            await asyncio.to_thread(images.build, NAME, runner)
            again = images.inspected(NAME)
            assert (again["Id"], again["Digest"]) == (first["Id"], first["Digest"])


async def a_job_runs_and_sees_no_secret(stage: Stage, images: Images, directory: Path) -> None:
    await stage.plane()
    shown, canary = directory / "shown", directory / "canary"
    shown.write_text("file-canary\n")
    canary.touch()
    # As careless platforms do: readable by everyone, and in the environment as well.
    token = directory / "executor-token"
    token.write_text(stage.executor_token)
    token.chmod(0o644)
    options = (
        *("--env=MAYFLY_POOL=linux", f"--env=MAYFLY_URL={stage.urls[0]}"),
        *("--env=MAYFLY_MACHINE=container", "--env=MAYFLY_TOKEN_FILE=/etc/mayfly/executor-token"),
        f"--env=MAYFLY_TOKEN={stage.executor_token}",
        f"--volume={token}:/etc/mayfly/executor-token:ro",
        *(f"--volume={shown}:/opt/shown:ro", f"--volume={canary}:/opt/canary:ro"),
    )
    async with images.running(NAME, *options) as container:
        job = stage.dispatch(stage.repository(), SEE)
        ended = await container.ended(120)
        assert ended.code == 0, ended.said
        assert stage.executor_token not in ended.said
        await stage.ends(job, seconds=60)
    saw = stage.simulator.log(job)
    seen = "\n".join(saw) + "".join(saw)  # long lines come in pieces
    for proof in ("uid=1001(mayfly-runner)", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"):
        assert proof in seen, "the job is nobody"
    for proof in ("file-canary", "mayfly-runner", "Runner.Listener", "## the end"):
        assert proof in seen, "the job could look around"
    # tini, the executor and the keeper, at least.
    assert len(re.findall("closed environment", "\n".join(saw))) >= 3
    assert len(re.findall("closed memory", "\n".join(saw))) >= 3
    secrets = planted(stage)
    # GitHub's runner keeps them as the user of its job, here as everywhere: docs, security.
    own = {"JIT config", "runner's credential"}
    others = {name: pieces for name, pieces in secrets.items() if name not in own}
    assert found_in(others, seen.encode()) == []


def a_bill_of_materials_is_complete_and_valid(images: Images, inspected: dict[str, Any]) -> int:
    with images.mounted(NAME) as root:
        text = (root / "usr/share/mayfly/bom.cdx.json").read_text()
        versions = msgspec.json.decode((root / "usr/share/mayfly/versions.json").read_bytes())
        status = (root / "var/lib/dpkg/status").read_text()
        wheels = len(list((root / "opt/mayfly/lib").glob("*.dist-info")))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    urls = [one.get("purl", "") for one in components]
    assert len(set(urls)) == len(urls)
    assert sum(url.startswith("pkg:deb/debian/") for url in urls) == status.count(
        "Status: install ok installed"
    )
    assert sum(url.startswith("pkg:pypi/") for url in urls) == wheels > 20
    pinned = (ROOT / "constraints.txt").read_text().split()
    python = [url.removeprefix("pkg:pypi/") for url in urls if url.startswith("pkg:pypi/")]
    assert {url.replace("@", "==") for url in python} - set(pinned) == {
        f"mayfly-runners=={versions['mayfly']}"
    }, "as pinned"
    assert f"pkg:github/actions/runner@{VERSION}" in urls
    assert [url for url in urls if "nuget" in url] == [
        "pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@8.0.11",
        "pkg:nuget/Newtonsoft.Json@13.0.3",
    ]
    labels = inspected["Config"]["Labels"]
    assert labels["mayfly.version"] == versions["mayfly"]
    assert labels["mayfly.runner.version"] == versions["runner_version"] == VERSION
    assert labels["org.opencontainers.image.base.digest"] == versions["base_digest"]
    assert versions["components"] == len(components)
    return len(components)


def an_image_made_of_it_is_found_and_tells_what_was_added(images: Images, directory: Path) -> None:
    """By the Containerfile of the how-to, with a package that needs no network."""
    package = directory / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN" / "control").write_text(
        "Package: cowsay\nVersion: 9.9-1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "--build", package], check=True, capture_output=True)
    (example,) = fenced(HOW_TO.read_text(), "dockerfile")
    install = re.compile(r"apt-get update .*?(?=\n    && /usr)", re.DOTALL)
    base = re.compile(r"^FROM .*$", re.MULTILINE)
    assert len(install.findall(example)) == len(base.findall(example)) == 1
    ours = base.sub(f"FROM {NAME}", install.sub(r"dpkg -i /tmp/package.deb \\", example))
    ours = ours.replace("RUN ", "RUN --mount=type=bind,source=package.deb,target=/tmp/package.deb ")
    images.extend(OTHER, ours, directory)
    inherited = images.inspected(OTHER)["Config"]
    assert inherited["Labels"]["mayfly.runner.version"] == VERSION
    assert inherited["Entrypoint"] == images.inspected(NAME)["Config"]["Entrypoint"]
    with images.mounted(OTHER) as root:
        bill = (root / "usr/share/mayfly/bom.cdx.json").read_text()
        versions = msgspec.json.decode((root / "usr/share/mayfly/versions.json").read_bytes())
    assert "pkg:deb/debian/cowsay@9.9-1?arch=all&distro=debian-12" in bill
    assert versions["runner_version"] == VERSION
    assert f"pkg:github/actions/runner@{VERSION}" in bill


def test_the_settings_of_the_image_are_settings_of_an_executor():
    """Also without Podman: a driver that does not take them would end every container."""
    file = decoded(IMAGE / "executor.toml", File, "there is one")
    assert file.executor.driver == "process"
    settings = msgspec.convert(file.runner, process.Settings, dec_hook=path_hook)
    assert settings.no_new_privileges


def test_no_secret_and_no_test_goes_into_the_context():
    copied = set(
        re.findall(r"^COPY .*?(\S+) \S+$", (IMAGE / "Containerfile").read_text(), re.MULTILINE)
    )
    assert copied == {"lib", "mayfly", "describe", "executor.toml"}
    assert os.access(IMAGE / "describe", os.X_OK)

"""Installing a release: real downloads from the simulator, whole, broken off, or wrong."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient
from mayfly.model.releases import Offer, Version
from mayfly.releases import cache
from mayfly.releases.archives import Untrusted
from mayfly.releases.downloads import BadChecksum, NoSpace, Patience
from mayfly.releases.installs import install
from mayfly.releases.upkeep import kept_current
from mayfly.simulator import Faults, Settings, Simulator, serve
from mayfly.simulator.archives import ARCHITECTURES, archive, filename, sha256
from mayfly.simulator.faults import DownloadRule
from tests.unit.test_archives import entry, packed

VERSION = Version(2, 336, 0)
QUICK = Patience(silence=10.0, altogether=30.0, pause=0.01, tries=3)
SIZE = 128 * 1024


@pytest.fixture
async def github() -> AsyncIterator[Simulator]:
    async with serve(Settings(runner_archive_bytes=SIZE)) as running:
        yield running


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    return tmp_path / "state" / "runners"


def content(version: str = str(VERSION)) -> bytes:
    return archive(cache.kind_of_machine()[1], version, SIZE)


def offers(github: Simulator, version: str = str(VERSION), **changes: str | None) -> list[Offer]:
    """As the control plane passes them on."""
    return [
        msgspec.structs.replace(
            Offer(
                os="linux",
                architecture=architecture,
                filename=(name := filename(architecture, version)),
                url=f"{github.url}/actions/runner/releases/download/v{version}/{name}",
                sha256=sha256(archive(architecture, version, SIZE)),
            ),
            **changes,
        )
        for architecture in ARCHITECTURES
    ]


def strike(github: Simulator, *rules: DownloadRule) -> None:
    github.faults = Faults(downloads=rules)


class Watched:
    """Remembers how far it came."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.begun = asyncio.Event()

    def __call__(self, have: int, total: int | None) -> None:
        assert total in {None, len(content())}
        self.seen.append(have)
        if have:
            self.begun.set()

    @property
    def beginnings(self) -> list[int]:
        """Where each request began."""
        before = [-1, *self.seen]
        return [
            now for last, now in zip(before, self.seen, strict=False) if now <= last or last < 0
        ]


def nothing_half_written(releases: Path) -> bool:
    """Neither a release nor a part of one."""
    left = [path for path in releases.rglob("*") if path.is_file() and path.name != "lock"]
    return not cache.installed(releases) and not left


async def test_a_release_is_installed_once(github: Simulator, releases: Path):
    found = await install(releases, offers(github), patience=QUICK)
    assert (found.version, found.fresh) == (VERSION, True)
    program = releases / "2.336.0" / cache.PROGRAM
    assert os.access(program, os.X_OK)
    assert sorted(os.listdir(releases)) == ["2.336.0", "lock"]  # noqa: PTH208 - within a loop's reach
    calls = github.calls
    found = await install(releases, offers(github), patience=QUICK)
    assert (found.fresh, github.calls) == (False, calls)


async def test_the_cache_is_closed_to_others(github: Simulator, releases: Path):
    await install(releases, offers(github), patience=QUICK)
    assert os.stat(releases).st_mode & 0o777 == 0o700  # noqa: PTH116 - as above


async def test_an_interrupted_download_goes_on_where_it_was(github: Simulator, releases: Path):
    strike(github, DownloadRule(fault="interrupted", after_bytes=20_000, count=2))
    progress = Watched()
    await install(releases, offers(github), progress=progress, patience=QUICK)
    assert progress.beginnings == [0, 20_000, 40_000]
    assert cache.installed(releases) == [VERSION]


async def test_a_download_that_never_comes_further_is_given_up(github: Simulator, releases: Path):
    strike(github, DownloadRule(fault="interrupted", after_bytes=0))
    with pytest.raises(Transient, match="interrupted"):
        await install(releases, offers(github), patience=QUICK)
    assert cache.installed(releases) == []


async def test_an_install_that_was_killed_is_continued_by_the_next(
    github: Simulator, releases: Path
):
    strike(github, DownloadRule(fault="slow", bytes_per_second=200_000))
    watched = Watched()
    killed = asyncio.create_task(
        install(releases, offers(github), progress=watched, patience=QUICK)
    )
    await watched.begun.wait()
    killed.cancel()
    await asyncio.wait({killed})
    strike(github)
    progress = Watched()
    await install(releases, offers(github), progress=progress, patience=QUICK)
    assert progress.beginnings == [max(watched.seen)]


async def test_a_download_has_an_end_however_slow(github: Simulator, releases: Path):
    strike(github, DownloadRule(fault="slow", bytes_per_second=20_000))
    with pytest.raises(Transient, match="was not downloaded within"):
        await install(releases, offers(github), patience=QUICK._replace(altogether=0.3))
    strike(github)
    progress = Watched()
    await install(releases, offers(github), progress=progress, patience=QUICK)
    assert progress.beginnings[0] > 0


def planted(releases: Path, part: bytes, etag: str | None) -> None:
    """What an earlier install left."""
    downloads = releases / "download"
    downloads.mkdir(parents=True)
    name = sha256(content())
    (downloads / f"{name}.part").write_bytes(part)
    if etag is not None:
        (downloads / f"{name}.etag").write_text(etag)


GENUINE = f'"{sha256(content())[:32]}"'


@pytest.mark.parametrize(
    ("part", "etag", "beginnings"),
    [
        pytest.param(content()[:5000], GENUINE, [5000], id="the same file"),
        pytest.param(content()[:5000], '"another"', [0], id="another file"),
        pytest.param(content()[:5000], 'W/"weak"', [0], id="a weak etag"),
        pytest.param(content()[:5000], None, [0], id="no etag"),
        pytest.param(b"x" * 5000, GENUINE, [5000, 0], id="a wrong beginning"),
        pytest.param(content(), GENUINE, [], id="all of it"),
        pytest.param(content() + b"x", GENUINE, [0], id="too much of it"),
    ],
)
async def test_what_an_earlier_install_left_is_used_when_it_fits(
    github: Simulator, releases: Path, part: bytes, etag: str | None, beginnings: list[int]
):
    planted(releases, part, etag)
    progress = Watched()
    await install(releases, offers(github), progress=progress, patience=QUICK)
    assert progress.beginnings == beginnings
    assert cache.installed(releases) == [VERSION]


@pytest.mark.parametrize("fault", ["corrupted", "announced"])
async def test_what_has_not_the_checksum_is_refused_and_not_kept(
    github: Simulator, releases: Path, fault: str
):
    wrong = offers(github, sha256="1" * 64) if fault == "announced" else offers(github)
    if fault == "corrupted":
        strike(github, DownloadRule(fault="corrupted", after_bytes=50_000))
    with pytest.raises(BadChecksum, match="does not have the SHA-256"):
        await install(releases, wrong, patience=QUICK)
    assert nothing_half_written(releases)
    strike(github)
    assert (await install(releases, offers(github), patience=QUICK)).fresh


async def test_what_cannot_be_checked_is_refused(github: Simulator, releases: Path):
    with pytest.raises(Permanent, match="announces no SHA-256"):
        await install(releases, offers(github, sha256=None), patience=QUICK)
    assert nothing_half_written(releases)


async def test_an_archive_that_is_not_there_is_a_sentence(github: Simulator, releases: Path):
    gone = offers(github, url=f"{github.url}/actions/runner/releases/download/v1/no.tar.gz")
    with pytest.raises(Permanent, match="answers 404"):
        await install(releases, gone, patience=QUICK)


async def test_a_machine_without_an_offer_is_told_so(github: Simulator, releases: Path):
    with pytest.raises(Permanent, match="GitHub offers no runner for linux"):
        await install(releases, offers(github, architecture="s390x"), patience=QUICK)


@pytest.fixture
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system with room for so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    size = f"size={request.param}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=10)
    if made.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=10)


@pytest.mark.parametrize(
    ("small", "sentence"),
    [
        pytest.param(len(content()) // 2, "MiB left and .* needs", id="for half the archive"),
        pytest.param(
            len(content()) + 80_000, "No space left on device", id="for the archive alone"
        ),
    ],
    indirect=["small"],
)
async def test_without_space_nothing_is_left_half_written(
    github: Simulator, small: Path, sentence: str
):
    with pytest.raises(NoSpace, match=sentence):
        await install(small / "runners", offers(github), patience=QUICK)
    assert nothing_half_written(small / "runners")


async def test_of_two_installs_at_once_one_downloads(github: Simulator, releases: Path):
    found = await asyncio.gather(
        *(install(releases, offers(github), patience=QUICK) for _ in range(4))
    )
    assert sorted(one.fresh for one in found) == [False, False, False, True]
    downloads = [count for call, count in github.calls.items() if "/releases/download/" in call]
    assert downloads == [1]


async def test_who_does_not_wait_is_told_that_another_one_installs(
    github: Simulator, releases: Path
):
    async with cache.locked(releases, wait=0):
        with pytest.raises(cache.Busy, match="another install is at work"):
            await install(releases, offers(github), wait=0)


@asynccontextmanager
async def serving(
    body: bytes, *, etag: str = "", broken: int = 0, asked: list[bytes] | None = None
) -> AsyncIterator[str]:
    """A host that answers everything with the same bytes; the first answers stop half-way."""
    seen: list[bytes] = [] if asked is None else asked

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: {etag}\r\n\r\n"
        whole = len(seen) > broken
        writer.write(head.encode() + (body if whole else body[: len(body) // 2]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/it.tar.gz"


@pytest.mark.parametrize(("etag", "resumed"), [('"strong"', True), ('W/"weak"', False)])
async def test_only_a_strong_etag_proves_that_two_parts_are_of_one_file(
    github: Simulator, releases: Path, etag: str, resumed: bool
):
    asked: list[bytes] = []
    async with serving(content(), etag=etag, broken=1, asked=asked) as url:
        await install(releases, offers(github, url=url), patience=QUICK)
    assert [b"\r\nIf-Range:" in request for request in asked] == [False, resumed]


@pytest.mark.parametrize(
    ("member", "sentence"),
    [("../escaped", "leads out of the tree"), ("bin/other", "has no bin/Runner.Listener")],
)
async def test_an_archive_with_the_right_checksum_is_not_trusted_either(
    github: Simulator, releases: Path, tmp_path: Path, member: str, sentence: str
):
    bad = packed(tmp_path / "it.tar.gz", entry(member, text=b"x")).read_bytes()
    async with serving(bad) as url:
        with pytest.raises(Untrusted, match=sentence):
            await install(releases, offers(github, url=url, sha256=sha256(bad)), patience=QUICK)
    assert nothing_half_written(releases)
    assert not (releases / "escaped").exists()


async def test_the_newest_three_releases_are_kept(github: Simulator, releases: Path):
    for minor in (335, 336, 337, 338, 339):
        await install(releases, offers(github, f"2.{minor}.0"), patience=QUICK)
    assert [version.minor for version in cache.installed(releases)] == [339, 338, 337]


async def test_a_release_that_is_being_copied_stays(github: Simulator, releases: Path):
    await install(releases, offers(github), patience=QUICK)
    with cache.held(releases, "newest") as directory:
        for minor in (337, 338, 339):
            await install(releases, offers(github, f"2.{minor}.0"), patience=QUICK)
        assert (directory / cache.PROGRAM).is_file()
    cache.prune(releases)
    assert not directory.exists()


async def test_a_release_is_chosen_by_name_or_as_the_newest(github: Simulator, releases: Path):
    with pytest.raises(InvalidSettings, match="run `mayfly runner install`"):
        cache.chosen(releases, "newest")
    await install(releases, offers(github), patience=QUICK)
    await install(releases, offers(github, "2.1000.0"), patience=QUICK)
    assert cache.chosen(releases, "newest") == Version(2, 1000, 0)
    assert cache.chosen(releases, "2.336.0") == VERSION
    with pytest.raises(InvalidSettings, match=r"'2\.1\.0' .* is not installed"):
        cache.chosen(releases, "2.1.0")


async def test_a_machine_at_work_installs_a_new_release_by_itself(
    github: Simulator, releases: Path
):
    answers: list[list[Offer] | MayflyError] = [
        offers(github),
        Transient("nobody answers"),
        offers(github, "2.337.0"),
    ]
    told = asyncio.Event()

    async def ask() -> list[Offer]:
        if not answers:
            told.set()
            await asyncio.Event().wait()
        answer = answers.pop(0)
        if isinstance(answer, MayflyError):
            raise answer
        return answer

    async with kept_current(releases, ask, period=0.01), asyncio.timeout(20):
        await told.wait()
    assert str(cache.installed(releases)[0]) == "2.337.0"


async def test_the_address_leads_to_a_store_that_knows_parts(github: Simulator):
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as http:
        url = offers(github)[0].url
        whole = await http.get(url)
        part = await http.get(url, headers={"range": "bytes=100-"})
    assert (whole.status_code, part.status_code) == (200, 206)
    assert whole.content[100:] == part.content
    assert whole.headers["etag"] == part.headers["etag"]

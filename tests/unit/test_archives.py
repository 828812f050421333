"""Unpacking an archive: nothing lands outside its tree, whatever the members are called."""

import io
import tarfile

import pytest

from mayfly.releases.archives import Untrusted, unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", *, mode: int = 0o644, text=b""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode, member.size = kind, to, mode, len(text)
    return member, text


def packed(path, *entries):
    with tarfile.open(path, "w:gz") as tar:
        for member, text in entries:
            tar.addfile(member, io.BytesIO(text))
    return path


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks members into a directory with something beside it to protect."""
    (tmp_path / "beside").write_text("untouched")

    def unpacking(*entries):
        unpack(packed(tmp_path / "it.tar.gz", *entries), tmp_path / "tree")
        return tmp_path / "tree"

    yield unpacking
    assert (tmp_path / "beside").read_text() == "untouched"
    assert {path.name for path in tmp_path.iterdir()} <= {"beside", "it.tar.gz", "tree"}


LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
BAD = {
    "a name that climbs out": [entry("../beside", text=b"x")],
    "a name that climbs out on the way": [entry("a/../../beside", text=b"x")],
    "an absolute name": [entry("/tmp/mayfly-escaped", text=b"x")],
    "a link that leads out": [entry("a", LINK, "../beside")],
    "a link that leads out from below": [entry("a/b", LINK, "../../beside")],
    "an absolute link": [entry("a", LINK, "/etc/passwd")],
    "two links that lead out together": [
        entry("a/b/up", LINK, "../.."),
        entry("out", LINK, "a/b/up/../beside"),
    ],
    "a file through a link": [entry("a", LINK, "b"), entry("a/c", text=b"x")],
    "a directory over a link": [entry("a", LINK, "b"), entry("a", tarfile.DIRTYPE)],
    "a hard link that leads out": [entry("a", HARD, "../beside")],
    "a hard link to a link": [entry("a", LINK, "b"), entry("c", HARD, "a")],
    "a hard link through a link": [
        entry("d/f", text=b"x"),
        entry("a", LINK, "d"),
        entry("c", HARD, "a/f"),
    ],
    "a hard link to nothing": [entry("a", HARD, "b")],
    "a device": [entry("a", tarfile.CHRTYPE)],
    "a fifo": [entry("a", tarfile.FIFOTYPE)],
    "the same file twice": [entry("a", text=b"x"), entry("a", text=b"y")],
    "a file below a file": [entry("a", text=b"x"), entry("a/b", text=b"y")],
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_runner_s_archive_never_holds_is_refused(unpacked, name):
    with pytest.raises(Untrusted, match="nothing of it is kept"):
        unpacked(*BAD[name])


def test_files_directories_and_links_inside_come_out_as_they_were(unpacked):
    tree = unpacked(
        entry("./", tarfile.DIRTYPE),
        entry("./bin/run", text=b"#!/bin/sh", mode=0o755),
        entry("./lib", tarfile.DIRTYPE),
        entry("./lib/x.js", text=b"x"),
        entry("./bin/npm", LINK, "../lib/x.js"),
        entry("./bin/copy", HARD, "./lib/x.js"),
    )
    assert (tree / "bin" / "npm").read_text() == "x"
    assert (tree / "bin" / "copy").read_text() == "x"
    assert (tree / "bin" / "run").stat().st_mode & 0o777 == 0o755


def test_no_member_is_setuid_or_writable_for_others(unpacked):
    tree = unpacked(entry("a", text=b"x", mode=0o6777), entry("b", text=b"x", mode=0))
    assert (tree / "a").stat().st_mode & 0o7777 == 0o755
    assert (tree / "b").stat().st_mode & 0o7777 == 0o600


def test_an_archive_that_ends_early_is_refused(tmp_path):
    whole = packed(tmp_path / "it.tar.gz", entry("a", text=bytes(range(256)) * 4000))
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(Untrusted, match="not a whole archive"):
        unpack(whole, tmp_path / "tree")


def test_an_archive_that_grows_without_end_is_refused(tmp_path):
    large = packed(tmp_path / "it.tar.gz", entry("a", text=b"x" * 600), entry("b", text=b"x" * 600))
    with pytest.raises(Untrusted, match="larger than any runner"):
        unpack(large, tmp_path / "tree", most_bytes=1000)

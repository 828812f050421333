"""Where a job's cgroup is, on machines of version 1, version 2 and both, from made-up files.

That the limits hold is in the contract suite of drivers and in test_sandbox_driver.
"""

import os
from pathlib import Path

import pytest

from mayfly.drivers import cgroups
from mayfly.drivers.cgroups import Limits, Unavailable

ALL = Limits(memory_bytes=1 << 20, processes=16, cpus=0.5)


def machine(root: Path, lines: list[tuple[str, str, str, str]], own: str) -> Path:
    """/proc/self of a machine with mounts of (directory, type, root, options)."""
    kernel = root / "self"
    kernel.mkdir()
    mounts = [
        f"30 24 0:26 {top} {root / directory} rw,nosuid shared:9 - {kind} cgroup {options}"
        for directory, kind, top, options in lines
    ]
    (kernel / "mountinfo").write_text("\n".join(["1 0 8:1 / / rw - ext4 /dev/vda rw", *mounts]))
    (kernel / "cgroup").write_text(own)
    return kernel


def v2(
    root: Path, own: str = "/system.slice/mayfly.service", *, controllers: str = "cpu memory pids"
):
    base = root / "cg" / own.lstrip("/")
    base.mkdir(parents=True)
    for name, text in (
        ("cgroup.controllers", controllers),
        ("cgroup.subtree_control", ""),
        ("cgroup.type", "domain"),
    ):
        (base / name).write_text(text)
    return base, machine(root, [("cg", "cgroup2", "/", "rw")], f"0::{own}\n")


async def made(cgroup: cgroups.Cgroup) -> dict[str, str]:
    """What was written, file by file; the kernel's own swap file is not there."""
    await cgroup.make()
    return read(cgroup)


def read(cgroup: cgroups.Cgroup) -> dict[str, str]:
    files = [path for each in cgroup.directories for path in Path(each).iterdir()]
    return {path.name: path.read_text() for path in files}


async def test_version_2_limits_in_a_leaf_beside_our_own(tmp_path: Path):
    base, kernel = v2(tmp_path)
    cgroup = cgroups.opened(tmp_path, ALL, kernel)
    (directory,) = map(Path, cgroup.directories)
    assert directory.parent == base
    assert (base / "mayfly-executor" / "cgroup.procs").read_text() == str(os.getpid())
    assert (base / "cgroup.subtree_control").read_text() == "+cpu", "one switch after another"
    assert await made(cgroup) == {
        "memory.max": str(1 << 20),
        "pids.max": "16",
        "cpu.max": "50000 100000",
    }


def test_version_2_finds_the_leaf_it_is_in(tmp_path: Path):
    base, _ = v2(tmp_path)
    leaf = base / "mayfly-executor"
    leaf.mkdir()
    (leaf / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "self" / "cgroup").write_text("0::/system.slice/mayfly.service/mayfly-executor\n")
    cgroup = cgroups.opened(tmp_path, ALL, tmp_path / "self")
    assert [Path(each).parent for each in cgroup.directories] == [base]
    assert not (leaf / "mayfly-executor").exists()


def test_version_2_without_delegation_says_so(tmp_path: Path):
    base, kernel = v2(tmp_path)
    (base / "cgroup.subtree_control").unlink()
    (base / "cgroup.subtree_control").mkdir()
    with pytest.raises(Unavailable, match=r"not ours alone .*Delegate=yes"):
        cgroups.opened(tmp_path, ALL, kernel)


async def test_version_1_limits_below_our_own(tmp_path: Path):
    mounts = [(name, "cgroup", "/", f"rw,{name}") for name in ("memory", "pids", "cpu,cpuacct")]
    for name in ("memory/ours", "pids", "cpu,cpuacct/ours"):
        (tmp_path / name).mkdir(parents=True)
    own = "4:memory:/ours\n3:pids:/elsewhere\n2:cpu,cpuacct:/ours\n"
    cgroup = cgroups.opened(tmp_path, ALL, machine(tmp_path, mounts, own))
    assert {str(Path(each).parent.relative_to(tmp_path)) for each in cgroup.directories} == {
        *("memory/ours", "pids", "cpu,cpuacct/ours"),
    }
    assert await made(cgroup) == {
        "memory.limit_in_bytes": str(1 << 20),
        "pids.max": "16",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
    }


def test_a_mix_takes_each_controller_where_it_is(tmp_path: Path):
    (tmp_path / "pids").mkdir()
    v2_base = tmp_path / "unified"
    v2_base.mkdir()
    (v2_base / "cgroup.controllers").write_text("memory")
    (v2_base / "cgroup.subtree_control").write_text("")
    mounts = [("pids", "cgroup", "/", "rw,pids"), ("unified", "cgroup2", "/", "rw")]
    kernel = machine(tmp_path, mounts, "3:pids:/\n0::/\n")
    cgroup = cgroups.opened(tmp_path, Limits(memory_bytes=1, processes=2), kernel)
    assert {Path(each).parent.name for each in cgroup.directories} == {"pids", "unified"}
    assert not (v2_base / "mayfly-executor").exists(), "the root may hold processes"


def test_a_controller_that_is_nowhere_is_named(tmp_path: Path):
    _, kernel = v2(tmp_path, controllers="hugetlb")
    with pytest.raises(Unavailable, match="no cgroup controller 'memory'"):
        cgroups.opened(tmp_path, ALL, kernel)


async def test_what_a_predecessor_recorded_is_removed(tmp_path: Path):
    left = tmp_path / "elsewhere" / "mayfly-old"
    left.mkdir(parents=True)
    (tmp_path / "cgroups").write_text(str(left))
    _, kernel = v2(tmp_path)
    await cgroups.opened(tmp_path, ALL, kernel).remove()
    assert not left.exists()
    assert not (tmp_path / "cgroups").exists()

"""The patches keep up with the code they break."""

from tests.mutants.__main__ import PATCHES, unfitting


def test_every_patch_fits_the_code():
    assert len(list(PATCHES.glob("*.patch"))) >= 16
    assert unfitting() == []

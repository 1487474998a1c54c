"""`make install` installs the versions that the tests ran with, of everything that macbind needs."""

from audit import ROOT, pinned
from audit.hashes import EXTRAS, SYSTEMS, needed


def test_what_is_installed_is_what_was_tested() -> None:
    """Every package has its version, but libvirt's module, which is the system's; none differs from the tests'."""
    installed, tested = (
        pinned((ROOT / one).read_text()) for one in ("dhcpd/constraints.txt", "tests/constraints.txt")
    )
    assert set(installed) == needed(EXTRAS) - SYSTEMS
    assert installed == {name: tested[name] for name in installed}

"""What a bare machine takes of this one's settings, and where it comes from."""

import fcntl
from pathlib import Path

import pytest

from bare.root import copy
from bare.settings import CERTIFICATES, apt_configuration, pip_configuration, sources_list
from labkit import debian
from labkit.debian import MirrorFailed, Source, mirror, own

SITE, SECURITY = "http://mirror.example/debian", "http://mirror.example/debian-security"
OWN = debian.release()
AMONG = [
    Source("nodistro", "Somebody", "main", "http://else.example"),
    Source(OWN, "Debian", "contrib", "http://contrib.example"),
    Source(OWN, "Debian", "main", SITE),
    Source(f"{OWN}-updates", "Debian", "main", SITE),
    Source(f"{OWN}-security", "Debian", "main", SECURITY),
]


def test_another_release_comes_from_the_same_mirrors() -> None:
    """Debian's own archives are taken, with updates, under the other release's names; nobody else's are."""
    assert sources_list("other", OWN, AMONG).splitlines() == [
        f"deb {SITE} other main",
        f"deb {SITE} other-updates main",
        f"deb {SECURITY} other-security main",
    ]
    assert mirror(AMONG, "other") == SITE


def test_archives_whose_origin_is_not_yet_known_are_debians() -> None:
    """Before the first `apt-get update` apt knows only what sources.list says."""
    new = [Source(OWN, "", "main", SITE)]
    assert own(new) == new
    assert mirror(new, OWN) == SITE


def test_a_machine_without_a_mirror_is_told_so() -> None:
    """Where apt knows nothing of Debian, no Debian can be made, and no mirror is guessed."""
    with pytest.raises(MirrorFailed, match="no mirror of Debian"):
        mirror(AMONG[:2], "bookworm")


def test_apt_keeps_its_way_to_the_mirror() -> None:
    """Proxies, retries and the trust in dates are kept; directories and everything else of this machine are not."""
    dump = [
        'Dir::Cache "var/cache/apt";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
        'Acquire::https::CaInfo "/etc/own.crt";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Languages "none";',
    ]
    kept = [dump[1], dump[2], dump[4]]
    assert apt_configuration(dump, {}).splitlines() == kept
    environment = {"http_proxy": "http://other:1", "https_proxy": "http://other:2"}
    assert apt_configuration(dump, environment).splitlines() == [
        *kept,
        'Acquire::https::Proxy "http://other:2";',
    ]


def test_pip_keeps_its_way_to_the_index() -> None:
    """The index, its time limit and the proxy are kept; directories of this machine are left out."""
    listed = [
        ":env:.find-links='/opt/wheels'",
        ":env:.default-timeout='180'",
        "global.cert='/etc/ssl/own.crt'",
        "global.index-url='https://index.example/simple'",
        "global.extra-index-url='file:///opt/simple https://more.example/simple'",
    ]
    lines = [
        "[global]",
        "timeout = 180",
        "index-url = https://index.example/simple",
        "extra-index-url = https://more.example/simple",
    ]
    assert pip_configuration(listed, {}, own_certificates=False).splitlines() == lines
    own_certificates = pip_configuration(listed, {"http_proxy": "http://proxy:1"}, own_certificates=True)
    assert own_certificates.splitlines() == [*lines, "proxy = http://proxy:1", f"cert = {CERTIFICATES}"]


def test_a_copy_is_thrown_away_and_what_is_left_by_others_is_too(tmp_path: Path) -> None:
    """The copy of a run that was killed is removed by the next one; that of a run that goes on is not."""
    pristine, places = tmp_path / "pristine", tmp_path / "copies"
    (pristine / "etc").mkdir(parents=True)
    for name in ("1", "2"):
        (places / f"{name}.root" / "etc").mkdir(parents=True)
        (places / f"{name}.lock").touch()
    with (places / "2.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with copy(pristine, places) as root:
            (root / "etc" / "new").touch()
            assert {path.name for path in places.glob("*.root")} == {"2.root", root.name}
        assert {path.name for path in places.iterdir()} == {"2.root", "2.lock"}
    assert list((pristine / "etc").iterdir()) == []

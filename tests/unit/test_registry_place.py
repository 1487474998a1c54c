"""What is told of the registry: where it is, and none of its secrets; and whose file it is."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from contract.book import make_pool
from macbind.core.errors import RegistryUnavailable
from macbind.doctor.files import look_at_secrets
from macbind.doctor.site import Site
from macbind.registry.database import has_password, parse_url, place, without_password
from macbind.registry.store import Registry

SECRET = "s3cr3t-Pa55"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/macbind/registry.db", "/var/lib/macbind/registry.db"),
        (f"postgresql+psycopg://me:{SECRET}@db/farm", "postgresql+psycopg://db/farm"),
        (f"postgresql+psycopg://me@db:5433/farm?password={SECRET}", "postgresql+psycopg://db:5433/farm"),
        (
            f"postgresql+psycopg://me@/farm?host=/run/postgresql&password={SECRET}&passfile={SECRET}",
            "postgresql+psycopg:///run/postgresql/farm",
        ),
        (
            f"postgresql+psycopg:///?dbname=farm&host=a&host=b&sslpassword={SECRET}",
            "postgresql+psycopg://a/farm",
        ),
        (f"postgresql+psycopg://me:{SECRET}@a:5432,b:5433/farm", "postgresql+psycopg://a,b/farm"),
    ],
)
def test_the_place_has_driver_host_and_database_only(url: str, shown: str) -> None:
    """Neither user nor password, wherever in the URL it stands."""
    assert place(url) == shown


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        (f"postgresql+psycopg://me:{SECRET}@db:5433/farm", "postgresql://me@db:5433/farm"),
        (
            f"postgresql+psycopg://me:{SECRET}@a,[::1]:5433/farm?sslmode=require",
            "postgresql://me@/farm?host=a%2C%3A%3A1&port=5432%2C5433&sslmode=require",
        ),
        (
            f"postgresql+psycopg://a,b/farm?password={SECRET}&sslpassword={SECRET}",
            "postgresql:///farm?host=a%2Cb&port=5432%2C5432",
        ),
    ],
)
def test_a_url_for_its_own_programs_has_no_password(url: str, bare: str) -> None:
    """With one host or several: whoever reads the command finds no secret, and psql finds the database."""
    assert has_password(url)
    assert not has_password(bare)
    asked = parse_url(without_password(url))
    assert asked == parse_url(bare)
    assert without_password(bare) == without_password(url)


def test_a_configuration_that_names_several_hosts_is_looked_at(tmp_path: Path) -> None:
    """The check finds the password in it, which everybody may read."""
    config = tmp_path / "macbind.toml"
    config.write_text(
        f'[registry]\nurl = "postgresql://me:{SECRET}@a:5432,b:5432/farm"\n'
        '[dhcpd.main]\n[pool.farm]\nsubnet = "10.1.0.0/16"\n'
    )
    config.chmod(0o644)
    (finding,) = look_at_secrets(Site.at(config, ask=False))
    assert (finding.code, finding.subject) == ("file_open", str(config))


@pytest.mark.parametrize(
    "where", [f"me:{SECRET}@", f"?password={SECRET}", f"?options={SECRET}&nonsense={SECRET}"]
)
def test_no_error_tells_the_password(where: str) -> None:
    """A database that cannot be reached, or an option that its driver refuses, is told without the secret."""
    url = "postgresql+psycopg://" + (where if where.endswith("@") else "") + "127.0.0.1:1/farm"
    registry = Registry(url + (where if where.startswith("?") else ""))
    try:
        with pytest.raises(RegistryUnavailable) as refused:
            registry.apply({"farm": make_pool()}, ["main"])
    finally:
        registry.close()
    assert SECRET not in str(refused.value.to_dict())
    assert "postgresql+psycopg://127.0.0.1:1/farm" in refused.value.message


@pytest.mark.parametrize(("before", "after"), [(None, 0o600), (0o644, 0o640), (0o640, 0o640)])
def test_nobody_else_reads_the_registry(tmp_path: Path, before: int | None, after: int) -> None:
    """Whatever the umask is, a new file is its user's alone; one that was open to all is closed to others."""
    path = tmp_path / "registry.db"
    if before is not None:
        path.touch()
        path.chmod(before)
    mask = os.umask(0)
    try:
        registry = Registry.open(f"sqlite:///{path}", {"farm": make_pool()}, ["main"])
        modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
        registry.close()
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys(("registry.db", "registry.db-wal", "registry.db-shm"), after)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_link_beside_the_registry_changes_no_other_file(tmp_path: Path, suffix: str) -> None:
    """What is taken from others is taken from the registry's own files."""
    victim, path = tmp_path / "passwd", tmp_path / "registry.db"
    victim.write_text("root:x:0:0\n")
    victim.chmod(0o644)
    (tmp_path / f"registry.db{suffix}").symlink_to(victim)
    with suppress(RegistryUnavailable):  # SQLite does not use it, or removes it
        Registry.open(f"sqlite:///{path}", {"farm": make_pool()}, ["main"]).close()
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("root:x:0:0\n", 0o644)


def test_a_registry_may_be_moved_to_another_disk(tmp_path: Path) -> None:
    """A link of one's own leads to the file, which is nobody else's either."""
    path = tmp_path / "registry.db"
    (tmp_path / "disk").mkdir()
    path.symlink_to(tmp_path / "disk" / "registry.db")
    Registry.open(f"sqlite:///{path}", {"farm": make_pool()}, ["main"]).close()
    assert (tmp_path / "disk" / "registry.db").stat().st_mode & 0o777 == 0o600

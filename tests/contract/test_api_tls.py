"""Cores on other hosts: who is let in over TLS, what each may, and what a stranger costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from contract.api_site import HOST, ApiSite, free_port
from labkit.certificates import Authority
from labkit.farm import MACBIND
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import (
    Conflict,
    MacbindError,
    NotFound,
    NotPermitted,
    ServiceUnavailable,
    TokenExpired,
    TokenInvalid,
)
from macbind.core.event import Change
from macbind.http.api_listener import ApiLimits


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    """One service that takes tokens and certificates."""
    with ApiSite(tmp_path_factory.mktemp("api"), clients=True) as site:
        yield site
        log = site.services[0].log()
        assert "Traceback" not in log
        assert '"level": "critical"' not in log


def test_a_token_does_what_the_socket_does(site: ApiSite) -> None:
    """Every kind of call works, and the audit log names the token, whatever the caller says of itself."""
    with site.client(site.token("core", "--write")) as client:
        made = client.allocate("farm", "vm-a", labels={"job": "1"}, reason="why not")
        assert client.get("vm-a") == made
        assert [one.name for one in client.list(search="vm-a")] == ["vm-a"]
        assert client.network_settings("vm-a").name == "vm-a"
        assert {one.pool for one in client.pools()} == {"farm", "other"}
        assert client.status().version
        assert "macbind_build_info" in client.metrics()
        assert client.wait_bound("vm-a") == ["vm-a"]
        (entry,) = client.history(name="vm-a", action="allocate")
        assert (entry.actor, entry.detail["reason"]) == ("api:core", "why not")
        assert [one.name for one in client.events(0, name="vm-a", wait=False) if isinstance(one, Change)]
        assert client.why("vm-a")[0].allocation is not None
    with site.services[0].client() as local:
        assert local.history(name="vm-a", actor="api:core")


def test_a_token_that_may_read_changes_nothing(site: ApiSite) -> None:
    """Each kind of change is refused, before anything of its body is read; the hint says where to run what."""
    token = site.token("reader")
    with site.client(token) as client:
        assert client.pools()
        attempts: list[Callable[[], object]] = [
            lambda: client.allocate("farm", "no"),
            lambda: client.release("no"),
            lambda: client.reserve("no", "10.1.7.7"),
            lambda: client.unreserve("no"),
            lambda: client.label("no", {"a": "b"}),
            lambda: client.remark("no", "x"),
            lambda: client.begin_renumber("no", "10.1.7.7"),
            lambda: client.release_labelled({"a": None}),
        ]
        for attempt in attempts:
            with pytest.raises(NotPermitted, match="'reader' may only read") as refused:
                attempt()
            assert refused.value.hint.startswith("On the service's host: ")


@pytest.mark.parametrize("token", [None, "nobody.x", "core", "..", "reader.reader", "a" * 5000])
def test_without_a_token_that_counts_nothing_is_told(site: ApiSite, token: str | None) -> None:
    """No list, no document, no metrics."""
    with site.client(token) as client:
        for ask in (client.pools, client.status, client.metrics, lambda: client.allocate("farm", "x")):
            with pytest.raises(TokenInvalid):
                ask()


def test_expiry_removal_and_last_use(site: ApiSite) -> None:
    """A token ends by itself or by command, at once; when it was used is noted."""
    short = site.token("short", "--expires", "1s")
    gone = site.token("gone")
    with site.client(gone) as client:
        assert client.pools()
        config = str(site.services[0].config)
        listed = json.loads(
            subprocess.check_output([*MACBIND, "token", "list", "--json", "--config", config], text=True)
        )
        assert next(one for one in listed if one["id"] == "gone")["last_used_at"] is not None
        subprocess.run([*MACBIND, "token", "remove", "gone", "--config", config], check=True)
        with pytest.raises(TokenInvalid):
            client.pools()

    def is_over() -> bool:
        with site.client(short) as client:
            try:
                client.pools()
            except TokenExpired:
                return True
            return False

    until(is_over, 60, "the token to expire")


def test_a_certificate_is_an_identity(site: ApiSite, tmp_path: Path) -> None:
    """Its common name counts if it is known here; a stranger's authority is refused in the handshake."""
    site.token("core-1", "--certificate", "--write")
    ca = site.authority.certificate
    for name, known in (("core-1", True), ("core-2", False)):
        mine = site.authority.issue(name)
        with Client(site.urls, ca=ca, certificate=mine.certificate, key=mine.key) as client:
            if known:
                assert client.allocate("farm", "by-certificate").name == "by-certificate"
                assert client.history(name="by-certificate")[0].actor == "api:core-1"
            else:
                with pytest.raises(TokenInvalid, match="certificate of 'core-2' is not known"):
                    client.pools()
    forged = Authority(tmp_path, "other-ca").issue("core-1")
    with (
        Client(site.urls, ca=ca, certificate=forged.certificate, key=forged.key) as client,
        pytest.raises(ServiceUnavailable),
    ):
        client.pools()


def test_an_id_proven_by_a_certificate_has_no_secret(site: ApiSite) -> None:
    """Nobody is core-9 by saying so."""
    site.token("core-9", "--certificate", "--write")
    for token in ("core-9", "core-9.", "core-9.certificate"):
        with site.client(token) as client, pytest.raises(TokenInvalid):
            client.pools()


def test_a_client_trusts_no_other_certificate(site: ApiSite, tmp_path: Path) -> None:
    """Neither of an unknown authority, nor for another host; the hint says what to name."""
    token = site.token("trusting")
    strange = Authority(tmp_path, "strange-ca").certificate
    with (
        Client(site.urls, token=token, ca=strange) as client,
        pytest.raises(ServiceUnavailable, match="is not trusted") as refused,
    ):
        client.pools()
    assert "MACBIND_CA" in refused.value.hint
    other = f"https://127.0.0.2:{site.ports[0]}"
    with site.client(token, [other]) as client, pytest.raises(ServiceUnavailable, match="cannot be reached"):
        client.pools()


def test_a_token_of_pools_sees_and_changes_no_other(site: ApiSite) -> None:
    """Lists, single allocations, history, events, maps, why, waiting and every change end at its pools."""
    with site.client(site.token("all", "--write")) as client:
        client.allocate("other", "theirs", group="both")
        client.allocate("farm", "mine", group="both")
        theirs = client.get("theirs")
    with site.client(site.token("ci", "--write", "--pool", "farm")) as client:
        assert {one.pool for one in client.list()} == {"farm"}
        assert {one.pool for one in client.pools()} == {"farm"}
        assert {one.pool for one in client.status().pools} == {"farm"}
        assert client.status().registry == ""
        assert {one.detail["pool"] for one in client.history(limit=1000)} == {"farm"}
        seen = [one for one in client.events(0, wait=False) if isinstance(one, Change)]
        assert {one.pool for one in seen} == {"farm"}
        assert client.why("mine")[0].allocation is not None
        assert list(client.map("farm"))
        for hidden in (
            lambda: client.get("theirs"),
            lambda: client.network_settings("theirs"),
            lambda: client.why("theirs"),
            lambda: client.why(theirs.address),
            lambda: client.why(theirs.mac),
            lambda: client.wait_bound("theirs"),
            lambda: client.wait_free("theirs", "mine", any_of=True),
        ):
            with pytest.raises(NotFound) as refused:
                hidden()
            assert (
                str(theirs.address) not in str(refused.value.to_dict())
                or hidden.__code__.co_names[0] == "why"
            )
        for forbidden in (
            lambda: list(client.list(pool="other")),
            lambda: list(client.free("other")),
            lambda: list(client.map("other")),
            lambda: client.map_blocks("other"),
            client.metrics,
            client.configuration,
            client.dhcp_servers,
            lambda: client.history(pool="other"),
            lambda: client.allocate("other", "new"),
            lambda: client.allocate("other", "new", dry_run=True),
            lambda: client.allocate("farm", "theirs"),
            lambda: client.release("theirs"),
            lambda: client.release("theirs", dry_run=True),
            lambda: client.release(address=theirs.address),
            lambda: client.release_group("both"),
            lambda: client.reserve("printer", "10.2.0.9"),
            lambda: client.begin_renumber("mine", "10.2.0.9"),
            lambda: client.label("theirs", {"a": "b"}),
        ):
            with pytest.raises(NotPermitted):
                forbidden()
        assert client.allocate("farm", "more").pool == "farm"
    with site.services[0].client() as local:
        assert local.get("theirs") == theirs
        assert local.get("mine").name == "mine"


def test_what_all_controllers_share_is_root_s_on_the_host(site: ApiSite) -> None:
    """A token that may write sees it, and changes none of it."""
    with site.client(site.token("writer", "--write")) as client:
        shared = client.configuration().shared
        assert [one.name for one in client.dhcp_servers()] == ["main"]
        for forbidden in (
            lambda: client.apply_configuration(shared),
            lambda: client.dhcp_out("main"),
            lambda: client.dhcp_in("main"),
        ):
            with pytest.raises(NotPermitted) as refused:
                forbidden()
            assert refused.value.hint == "Ask as root on the service's host."
    with site.services[0].client() as local:
        assert local.configuration().shared == shared


def test_the_command_line_works_from_elsewhere(site: ApiSite) -> None:
    """The environment says where the service is, who asks, and whom to trust."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MACBIND_")}
    env |= {
        "MACBIND_SERVICE": ",".join(site.urls),
        "MACBIND_TOKEN": site.token("shell", "--write"),
        "MACBIND_CA": str(site.authority.certificate),
    }

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MACBIND, *words], env=env | more, capture_output=True, text=True, timeout=120, check=False
        )

    made = run("allocate", "farm", "from-afar", "--json")
    assert made.returncode == 0, made.stderr
    assert "from-afar" in run("list").stdout
    assert "api:shell" in run("show", "from-afar").stdout
    refused = run("list", MACBIND_TOKEN="shell.wrong")
    assert refused.returncode != 0
    assert "There is no such token." in refused.stderr
    assert "On the service's host" not in run("list", "--socket", "/nonexistent/s").stderr
    away = run("list", MACBIND_SERVICE=f"https://{HOST}:1")
    assert "cannot be reached: nobody listens." in away.stderr
    assert "On the service's host: `systemctl start macbind`" in away.stderr


def _tls(site: ApiSite) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(site.authority.certificate))
    plain = socket.create_connection((HOST, site.ports[0]), 60)
    return context.wrap_socket(plain, server_hostname=HOST)


def test_a_head_without_end_is_refused_before_anybody_is_asked(site: ApiSite) -> None:
    """A stranger cannot fill the memory: the service ends the connection long before a megabyte."""
    with _tls(site) as stranger:
        stranger.sendall(b"GET /v1/pools HTTP/1.1\r\nHost: a\r\nX-A: ")
        assert _taken(stranger, 64 << 20) < 8 << 20


def _taken(stranger: ssl.SSLSocket, most: int) -> int:
    """How much of a header the service takes."""
    for sent in range(0, most, 4096):
        try:
            stranger.sendall(b"a" * 4096)
        except OSError:  # reset, or a broken pipe
            return sent
    return most


def test_a_body_is_not_read_before_its_sender_is_known(site: ApiSite) -> None:
    """The answer comes while the body is still to be sent, and the connection ends."""
    with _tls(site) as stranger:
        stranger.sendall(
            b"POST /v1/allocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10000000\r\n\r\n{"
        )
        answer = b""
        while piece := stranger.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_silent_connections_are_few_and_short(site: ApiSite) -> None:
    """One address holds few places without asking, others in it are served again when those are cut."""
    most = ApiLimits().strangers
    silent = [socket.create_connection((HOST, site.ports[0]), 60) for _ in range(most)]
    until(lambda: _is_refused(site), 60, "a connection too many to be refused")
    for one in silent:
        assert one.recv(1) == b""
        one.close()
    token = site.token("patient")

    def is_answered() -> bool:
        with site.client(token) as client:
            try:
                return bool(client.pools())
            except ServiceUnavailable:
                return False

    until(is_answered, 60, "the places to be free again")


def _is_refused(site: ApiSite) -> bool:
    try:
        with _tls(site):
            return False
    except OSError:
        return True


def test_a_reload_takes_renewed_certificates(tmp_path: Path) -> None:
    """New connections get the new one; what cannot be used is refused, and the service goes on with the old one."""
    with ApiSite(tmp_path) as site:
        service, token = site.services[0], site.token("core")
        before = _served(site)
        site.server.certificate.write_text("nothing\n")
        os.kill(service.pid, signal.SIGHUP)
        until(lambda: "config_refused" in _findings(site), 60, "the broken certificate to be refused")
        assert _served(site) == before
        with site.client(token) as client:
            assert client.pools()
        site.authority.issue("renewed", f"IP:{HOST}", file="server")
        os.kill(service.pid, signal.SIGHUP)
        until(lambda: _served(site) != before, 60, "the renewed certificate to be served")
        until(lambda: "config_refused" not in _findings(site), 60, "the refusal to end")
        with site.client(token) as client:
            assert client.pools()


def test_the_page_holds_to_pools_too(tmp_path: Path) -> None:
    """A token of pools sees these on the page, with their last hour, and releases nothing of others."""
    port = free_port()
    page = f'[page]\nlisten = "{HOST}:{port}"\ntokens = "{tmp_path}/tokens"'
    with ApiSite(tmp_path, more=page) as site:
        with site.services[0].client() as local:
            local.allocate("other", "theirs")
            local.allocate("farm", "mine")
        token = site.token("wall", "--write", "--pool", "farm")

        def ask(path: str, body: object = None) -> tuple[int, Any]:
            made = HTTPConnection(HOST, port, timeout=60)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            made.request("GET" if body is None else "POST", path, text, headers)
            answer = made.getresponse()
            found = answer.status, json.loads(answer.read())
            made.close()
            return found

        about = ask("/v1/page")[1]
        assert [one["pool"] for one in about["trends"]] == list(about["bounds"]) == ["farm"]
        assert [one["pool"] for one in about["status"]["pools"]] == ["farm"]
        assert about["status"]["rates"] is None
        assert [one[2] for one in ask("/v1/page/rows?pool=farm")[1]["rows"]] == ["mine"]
        assert ask("/v1/page/rows?pool=other")[0] == 403
        assert [one["pool"] for one in ask("/v1/status")[1]["pools"]] == ["farm"]
        assert [one["name"] for one in ask("/v1/allocations")[1]["allocations"]] == ["mine"]
        assert ask("/v1/pools/other/map")[0] == 403
        assert ask("/v1/release", {"name": "theirs"})[0] == 403
        with site.services[0].client() as local:
            assert local.get("theirs").name == "theirs"


def test_what_the_service_needs_is_looked_at_before(tmp_path: Path) -> None:
    """`macbind check` refuses another key than the certificate's, and doctor one that everybody may read."""
    with ApiSite(tmp_path) as site:
        config = str(site.services[0].config)
        check = [*MACBIND, "check", config]
        assert subprocess.run(check, check=False, timeout=120).returncode == 0
        site.server.key.chmod(0o644)
        doctor = [*MACBIND, "doctor", "--json", "--config", config]
        done = subprocess.run(doctor, check=False, timeout=300, capture_output=True, text=True)
        assert str(site.server.key) in {
            one["subject"] for one in _named(json.loads(done.stdout), "file_open")
        }
        site.server.key.write_text(site.authority.issue("other").key.read_text())
        done = subprocess.run(check, check=False, timeout=120, capture_output=True, text=True)
        assert done.returncode == 3
        assert "[api] certificate" in done.stderr


def _named(found: Any, code: str) -> list[dict[str, Any]]:
    """All findings of this code, wherever they stand."""
    if isinstance(found, list):
        return [one for part in found for one in _named(part, code)]
    if not isinstance(found, dict):
        return []
    here = [found] if found.get("code") == code else []
    return here + [one for part in found.values() for one in _named(part, code)]


def _served(site: ApiSite) -> bytes | None:
    with _tls(site) as connection:
        return connection.getpeercert(binary_form=True)


def _findings(site: ApiSite) -> set[str]:
    with site.services[0].client() as client:
        return {one.code for one in client.status().findings}


def test_a_name_is_no_request_id(site: ApiSite) -> None:
    """X-Request-ID is a word for the audit log, and never finds or makes anything."""
    token = site.token("named", "--write")
    with Client(site.urls, token=token, ca=site.authority.certificate, request_id="vm-of-somebody") as client:
        first, second = client.allocate("farm"), client.allocate("farm")
        assert len({first.name, second.name, "vm-of-somebody"}) == 3
        assert client.history(request="vm-of-somebody")
        with pytest.raises(NotFound):
            client.get("vm-of-somebody")
        with pytest.raises(Conflict):
            client.allocate("farm", first.name, group="another")
        with pytest.raises(MacbindError):
            client.release("vm-of-somebody", generation=first.generation, address=first.address)


def _allocate(site: ApiSite, token: str, key: str | None, **body: object) -> tuple[int, dict[str, Any]]:
    """An allocation as a program without our client asks for it."""
    made = HTTPConnection(HOST, site.ports[0])
    with _tls(site) as made.sock:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        made.request("POST", "/v1/allocations", json.dumps({"pool": "farm"} | body), headers)
        answer = made.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_request_without_a_name_finds_its_own(site: ApiSite) -> None:
    """Its key makes the name: for its caller only, and for one allocation only, however late the repeat comes."""
    mine, theirs = site.token("mine", "--write"), site.token("theirs", "--write")
    status, made = _allocate(site, mine, "k-1")
    assert status == 200
    (one,) = made["allocations"]
    assert _allocate(site, mine, "k-1") == (200, made)
    assert _allocate(site, theirs, "k-1")[1]["allocations"][0]["name"] != one["name"]
    assert "k-1" not in one["name"]
    assert _allocate(site, mine, None)[0] == 400
    assert _allocate(site, mine, "a b")[0] == 400
    site.services[0].release(one["name"])
    status, refused = _allocate(site, mine, "k-1")
    assert (status, refused["error"]["code"]) == (409, "conflict")

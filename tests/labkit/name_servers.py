"""Real name servers in a lab: BIND whose zones take updates, dnsmasq with hosts files, and unbound."""

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.update

from labkit.net import Lab, Process
from labkit.wait import until

_SOA = "@ 60 IN SOA ns.invalid. admin.invalid. 1 3600 600 86400 60\n@ 60 IN NS ns.invalid.\n"
SECRET = "bWFjYmluZC10ZXN0cy1hcmUtbm8tc2VjcmV0LWF0LWFsbCE="
KEY = f'key "macbind" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'


class _Server:
    """A name server at 127.0.0.1 in the server's namespace of a lab. A context manager: it answers inside."""

    def __init__(self, lab: Lab, port: int, log: Path, command: Sequence[str]) -> None:
        self.lab, self.port, self._log, self._command = lab, port, log, command
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        process = self._process = self.lab.popen(self._command, output=self._log)

        def answers() -> bool:
            if not process.alive:
                raise RuntimeError(f"{self._command[0]} has ended:\n{self._log.read_text()}")
            return self._answers()

        until(answers, 60, f"{self._command[0]} to answer", pause_s=0.05)

    def _answers(self) -> bool:
        try:
            self.ask("ready.invalid.", "A", timeout_s=1)
        except (OSError, EOFError):
            return False
        return True

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def ask(self, name: str, kind: str, *, timeout_s: float = 20.0) -> set[str]:
        """What it has under a name; nothing where there is none."""
        question = dns.message.make_query(name, kind)
        with self.lab.open_socket("127.0.0.1", self.port, timeout_s) as link:
            dns.query.send_tcp(link, question)
            answer, _ = dns.query.receive_tcp(link)
        wanted = dns.rdatatype.from_text(kind)
        return {one.to_text() for some in answer.answer if some.rdtype == wanted for one in some}

    def address(self, name: str) -> set[str]:
        """The addresses of a name."""
        return self.ask(name, "A")

    def name(self, address: str) -> set[str]:
        """The names of an address."""
        return self.ask(f"{'.'.join(reversed(address.split('.')))}.in-addr.arpa.", "PTR")


class Bind(_Server):
    """BIND 9, whose zones are transferred and updated with the key of `key_file`, as the documentation has them.

    Args:
        lab: The network.
        directory: Where its files go.
        zones: The zones.
        port: Where it listens.
    """

    def __init__(self, lab: Lab, directory: Path, zones: Sequence[str], port: int = 5300) -> None:
        directory.mkdir()
        self.key_file = directory / "macbind.key"
        self.key_file.write_text(KEY)
        self.key_file.chmod(0o640)
        blocks = []
        for zone in zones:
            (directory / f"{zone}.zone").write_text(_SOA)
            kind = "PTR" if zone.endswith(".in-addr.arpa") else "A"
            blocks.append(
                f'zone "{zone}" {{ type primary; file "{zone}.zone"; notify no; '
                f"update-policy {{ grant macbind zonesub {kind} TXT; }}; "
                'allow-transfer { key "macbind"; }; };\n'
            )
        conf = directory / "named.conf"
        conf.write_text(
            f'include "{self.key_file}";\n'
            f'options {{ directory "{directory}"; pid-file none; session-keyfile none; recursion no; '
            "dnssec-validation no; empty-zones-enable no; "
            f"listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; }};\n"
            f"controls {{ }};\n{''.join(blocks)}"
        )
        super().__init__(lab, port, directory / "named.log", ["named", "-g", "-n", "1", "-c", str(conf)])

    def update(self, zone: str, name: str, kind: str, text: str, *, remove: bool = False) -> None:
        """Adds a record by hand, or removes one, as an admin does."""
        change = dns.update.UpdateMessage(zone, keyring={dns.name.from_text("macbind"): _secret()})
        if remove:
            change.delete(name, kind, text)
        else:
            change.add(name, 60, kind, text)
        with self.lab.open_socket("127.0.0.1", self.port, 20.0) as link:
            dns.query.send_tcp(link, change)
            answer, _ = dns.query.receive_tcp(link, keyring=change.keyring, request_mac=change.mac)
        assert answer.rcode() == dns.rcode.NOERROR


def _secret() -> bytes:
    return base64.b64decode(SECRET)


class Dnsmasq(_Server):
    """dnsmasq, which reads every hosts file of a directory when it changes.

    Args:
        lab: The network.
        hosts: The directory.
        log: Where it logs.
        port: Where it listens.
    """

    def __init__(self, lab: Lab, hosts: Path, log: Path, port: int = 5301) -> None:
        command = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--log-facility=-",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            f"--port={port}",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            f"--hostsdir={hosts}",
        ]
        super().__init__(lab, port, log, command)


class Unbound(_Server):
    """unbound, with more lines of configuration.

    Args:
        lab: The network.
        directory: Where its files go.
        more: The lines, from a `server:` on.
        port: Where it listens.
    """

    def __init__(self, lab: Lab, directory: Path, more: str, port: int = 5302) -> None:
        directory.mkdir()
        conf = directory / "unbound.conf"
        conf.write_text(
            f'{more}\nserver:\n    interface: 127.0.0.1@{port}\n    do-daemonize: no\n    username: ""\n'
            f'    chroot: ""\n    directory: "{directory}"\n    pidfile: ""\n    use-syslog: no\n'
            '    local-zone: "invalid." static\nremote-control:\n    control-enable: no\n'
        )
        super().__init__(lab, port, directory / "unbound.log", ["unbound", "-d", "-c", str(conf)])


def getent(lab: Lab, directory: Path, hosts: Path, name: str) -> str:
    """What glibc's resolver says of a name where this file is /etc/hosts; empty if nothing."""
    script = f'mount --bind "{hosts}" /etc/hosts && exec getent -s files hosts "{name}"'
    done = subprocess.run(
        lab.server.argv(["unshare", "--mount", "sh", "-c", script]),
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 2), done.stderr
    return done.stdout

"""A certification authority for tests: real certificates, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, each in a file in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates.

    Args:
        directory: Where its files go.
        name: Its name.
    """

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        self._directory, self._name = directory, name
        self.certificate, self._key = directory / f"{name}.crt", directory / f"{name}.key"
        self._new_key(self._key)
        _openssl(
            *(
                "req",
                "-x509",
                "-key",
                self._key,
                "-out",
                self.certificate,
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
            ),
            *("-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign"),
        )

    def issue(self, name: str, *hosts: str, days: int = 2, file: str | None = None) -> Issued:
        """A certificate of this common name, for hosts such as ``IP:127.0.0.1`` and ``DNS:farm``."""
        made = Issued(self._directory / f"{file or name}.crt", self._directory / f"{file or name}.key")
        self._new_key(made.key)
        request = self._directory / f"{name}.csr"
        _openssl("req", "-new", "-key", made.key, "-out", request, "-subj", f"/CN={name}")
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={','.join(hosts)}\n" if hosts else "keyUsage=digitalSignature\n"
        )
        _openssl(
            *(
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                self.certificate,
                "-CAkey",
                self._key,
                "-days",
                str(days),
            ),
            *("-CAcreateserial", "-extfile", extensions, "-out", made.certificate),
        )
        return made

    def _new_key(self, path: Path) -> None:
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)

"""What to do when libvirt cannot be reached: the next step, by what libvirt or ssh says."""

from __future__ import annotations

from urllib.parse import urlsplit

_SSH = (
    (
        "Host key verification failed",
        (
            "The user that runs this does not know the host's key. As that user, run `ssh-keyscan {host} >>"
            "~/.ssh/known_hosts` and compare the key; the service's user is macbind, and its home /var/lib/macbind."
        ),
    ),
    (
        "Permission denied",
        (
            "The host takes no key of this user. Make one with `ssh-keygen`, and put its public part into "
            "authorized_keys on {host}; the service's keys are in /var/lib/macbind/.ssh."
        ),
    ),
    ("Could not resolve hostname", "Check the host's name in the URI."),
    (
        "Operation not permitted",
        "The service may speak with its own machine only: `systemctl edit macbind`, [Service], IPAddressAllow=.",
    ),
    ("apply process capabilities", "Update macbind.service: its SystemCallFilter= must allow capset."),
    ("No such file or directory", "Install openssh-client here; libvirt and its virt-ssh-helper on {host}."),
    ("not found", "Install libvirt, with its virt-ssh-helper or netcat, on {host}."),
)
_TLS = "Check the certificates: /etc/pki/CA/cacert.pem, /etc/pki/libvirt/clientcert.pem and private/clientkey.pem."


def next_step(uri: str, said: str) -> str | None:
    """The next step for whoever reads that a remote libvirt cannot be reached; None if nothing remote is to blame.

    Args:
        uri: The libvirt URI.
        said: libvirt's own words.
    """
    parts = urlsplit(uri)
    transport, host = parts.scheme.partition("+")[2], parts.hostname or "the host"
    if transport in ("ssh", "libssh", "libssh2"):
        for words, step in _SSH:
            if words in said:
                return step.format(host=host)
        return f"Try `ssh {host} virsh list` as the user that runs this; the service's user is macbind."
    if transport == "ext":
        return "Run the program in the URI's `command=` by hand, as the user that runs this."
    if "Operation not permitted" in said:
        return _SSH[3][1]
    if parts.hostname and transport in ("", "tls"):
        return _TLS
    return None

"""Refuse every connection that leaves this machine, for tests and for the host that tests start.

An audit hook sees connections and name look-ups of Python code in every library, and cannot be removed again. Each refusal is
also printed, because callers may swallow the exception.
"""

import ipaddress
import sys

WORDS = "offline guard: refused a connection to"
EVENTS = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")


def is_loopback(host) -> bool:
    """Whether a host name or address stays on this machine; an empty or missing host means the local one."""
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def host_of(event: str, arguments):
    """The host that an audited call is about; None for sockets that have no host (Unix, netlink)."""
    address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    if event in ("socket.connect", "socket.sendto"):
        return address[0] if isinstance(address, tuple) and isinstance(address[0], str) else None
    return address


def _audit(event, arguments):
    if event in EVENTS:
        host = host_of(event, arguments)
        if not is_loopback(host) and host != "0.0.0.0":
            sys.stderr.write(f"{WORDS} {host}\n")
            raise PermissionError(f"{WORDS} {host}; tests and their host may only talk to this machine")


def install():
    """Install the guard in this process, for good."""
    sys.addaudithook(_audit)

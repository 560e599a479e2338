"""Who may ask a server on this machine: only names that can mean nothing but this machine."""

from __future__ import annotations

from ipaddress import ip_address

ADDRESS = "127.0.0.1"


def is_here(host: str) -> bool:
    """Say whether a ``Host`` header names this machine itself, on whatever port.

    A page from elsewhere can make a browser ask a server on this machine under a name of its own (DNS
    rebinding), and then read the answer. The header tells such a request: it carries that name.

    Args:
        host: the header, with or without a port.

    Returns:
        True for ``localhost`` and for addresses of the loopback interface.

    Example:
        >>> is_here("localhost:5006"), is_here("[::1]"), is_here("runs.example.org:5006")
        (True, True, False)
    """
    name = host.strip().lower()
    if name.startswith("["):
        name, closed, port = name[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return False
    elif ":" in name:
        name, _, port = name.partition(":")
        if not _is_port(f":{port}"):
            return False
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit()

"""Addresses of this machine for servers: which names are local, and opening one to listen on."""

import ipaddress
import socket

from gmsrm_jax.runtime.errors import UserError

_EVERY_INTERFACE = ("0.0.0.0", "::")


def is_local(host: str) -> bool:
    """Whether a name or address reaches only the machine it is used on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Opens the address; port 0 takes any that is free.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((host, port))
            opened.listen(128)
        except (OSError, UnicodeError, OverflowError):
            opened.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host={host} --port={port}: cannot be opened ({reason}); give another --port, 0 for"
            " any that is free"
        ) from error
    return opened


def address(opened: socket.socket, host: str) -> str:
    """Returns the URL, with a slash at its end, under which browsers find what was opened."""
    name = socket.gethostname() if host in _EVERY_INTERFACE else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{opened.getsockname()[1]}/"

"""Whether a run may have a callback, asked before it is accepted.

Called by submit and by HTTP. Looks up no name: where it leads is checked again when it is sent.
"""

import ipaddress
from fnmatch import fnmatchcase

from runtime.base.sections import CallbackSettings
from runtime.base.web.places import Refused, check_url, is_public


def check_callback(url: str, settings: CallbackSettings) -> None:
    """Refused says what is wrong with a URL, or with the settings."""
    host = check_url(url)
    if not settings.secrets:
        raise Refused(
            "callbacks are signed, and [callbacks] secrets names none; `fnrun secrets keygen --webhook` makes one"
        )
    check_host(host, settings)


def check_host(host: str, settings: CallbackSettings) -> None:
    """Refused if [callbacks] does not let anything be sent to a host."""
    if settings.allow and not any(fnmatchcase(host.lower(), pattern.lower()) for pattern in settings.allow):
        raise Refused(f"{host} is not among [callbacks] allow")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    if not settings.allow_private and not is_public(host):
        raise Refused(f"{host} is no public address; [callbacks] allow_private = true lets it be sent to")

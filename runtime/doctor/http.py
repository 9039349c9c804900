"""Ask HTTP of this machine whether it is well. Called by gather."""

import http.client
import json
import ssl
from contextlib import closing
from http import HTTPStatus

from runtime.base.sections import HttpSettings

_PATIENCE_SECONDS = 3.0
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - what it listens on, not what is asked


def ask_http(settings: HttpSettings) -> tuple[str, str]:
    """The version that answers where HTTP listens, and ""; or "", and why nothing that is well does."""
    host, _, port = settings.bind.rpartition(":")
    host = "127.0.0.1" if host.strip("[]") in _EVERYWHERE else host.strip("[]")
    try:
        with closing(_connection(settings, host, int(port))) as asked:
            asked.request("GET", "/_/health")
            answer = asked.getresponse()
            body = answer.read()
        if answer.status != HTTPStatus.OK:
            return "", f"it answers {answer.status}"
        return str(json.loads(body)["version"]), ""
    except (OSError, http.client.HTTPException) as error:
        return "", getattr(error, "strerror", None) or str(error) or type(error).__name__
    except (ValueError, KeyError, TypeError):
        return "", "it is something else than fnrun"


def _connection(settings: HttpSettings, host: str, port: int) -> http.client.HTTPConnection:
    if not settings.certfile:
        return http.client.HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)
    trusting = ssl._create_unverified_context()  # noqa: S323 - it is only asked whether it is well
    return http.client.HTTPSConnection(host, port, timeout=_PATIENCE_SECONDS, context=trusting)

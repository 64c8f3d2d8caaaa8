"""Requests to the hub and to where it keeps its files, with the standard library alone."""

import functools
import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from ..errors import DownloadError, NoAccessError, NotOnHubError, UnreachableError

AGAIN = "Run it again: what arrived is kept, and it goes on from there."
# What a connection ends with; anything else is no fault of the connection.
DROPS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others a moment later


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the hub to where the bytes are; the token stays with the hub."""

    def redirect_request(self, request, *rest):
        redirected = super().redirect_request(request, *rest)
        if redirected is not None and urlsplit(redirected.full_url).netloc != urlsplit(request.full_url).netloc:
            redirected.remove_header("Authorization")
        return redirected


def _certificates() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # Python from python.org on macOS has none
        try:
            import certifi
        except ModuleNotFoundError:
            return context
        context.load_verify_locations(certifi.where())
    return context


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects, urllib.request.HTTPSHandler(context=_certificates()))


def open_url(url: str, headers: dict[str, str], timeout: float):
    """The answer to a GET, redirects followed: `urllib.error.HTTPError` for refusals, one of `DROPS` without an answer."""
    return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)


def read_json(url: str, headers: dict[str, str], timeout: float, what: str) -> dict:
    """A DownloadError of the right kind unless `url` gives a JSON object."""
    try:
        with open_url(url, headers, timeout) as answer:
            parsed = json.load(answer)
    except urllib.error.HTTPError as error:
        raise refusal(error, what) from error
    except DROPS as error:
        raise unreachable(url, error) from error
    except ValueError as error:
        raise _no_hub(url) from error
    if not isinstance(parsed, dict):
        raise _no_hub(url)
    return parsed


def _no_hub(url: str) -> DownloadError:
    return DownloadError(
        f"What {urlsplit(url).netloc} answered is not what a hub answers.", "Expected a description of the repository in JSON.",
        "Check HF_ENDPOINT, and whether a proxy or a login page is in between.",
    )


def refusal(error: urllib.error.HTTPError, what: str) -> DownloadError:
    """What an HTTP status means for the user."""
    answered = f"The hub answered {error.code} ({error.reason}) when asked for {what}."
    if error.code in (401, 403):
        return NoAccessError(
            answered, "Expected to be let in.",
            "Accept the terms on the repository's page, and set HF_TOKEN to a token that may read it; a name that does not "
            "exist and a token that has expired get the same answer.",
        )
    if error.code in (404, 410):
        return NotOnHubError(answered, "Expected it to be there.", "Check HF_ENDPOINT, and the repository's page on the hub.")
    if error.code in BUSY:
        return UnreachableError(answered, "Expected an answer.", AGAIN)
    return DownloadError(answered, "Expected the file.", "Try it again later, or look at the repository's page on the hub.")


def unreachable(url: str, error: Exception) -> UnreachableError:
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return UnreachableError(f"{urlsplit(url).netloc} cannot be reached ({reason}).", "Expected a connection.", AGAIN)

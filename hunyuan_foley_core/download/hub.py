"""What the hub says of a repository, or, without a connection, what its cache on this machine holds."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..errors import DownloadError, MissingPackageError, NotOnHubError, UnreachableError
from . import connection

SHA256 = re.compile(r"[0-9a-f]{64}")
ADDRESS = re.compile(r"https?://[^/]", re.IGNORECASE)
TIMEOUT = 15.0  # seconds without a byte; a download then goes on with a new connection


@dataclass(frozen=True)
class HubFile:
    """A file as the hub describes it.

    Attributes:
        size: in bytes.
        digest: SHA-256 in hexadecimal, or for small files the SHA-1 of the git object.
        url: where it is fetched; empty where there is no connection.
        cached: where the cache of huggingface_hub has it.
    """

    repository: str
    name: str
    commit: str
    size: int
    digest: str
    url: str
    cached: Path | None = None


@dataclass(frozen=True)
class Repository:
    """Its files by name, and the licence as its page names it."""

    name: str
    files: dict[str, HubFile]
    licence: str


class Hub:
    """The hub that HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME and a saved login mean.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
        DownloadError: HF_ENDPOINT is no address.
    """

    def __init__(self):
        try:
            from huggingface_hub import constants, get_token, try_to_load_from_cache
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"The Python package {error.name} is not installed.", "It finds the files and your token on the hub.",
                "Run: pip install huggingface_hub",
            ) from error
        self.endpoint, self.offline = constants.ENDPOINT, constants.HF_HUB_OFFLINE
        if not self.offline and not ADDRESS.match(self.endpoint):
            raise DownloadError(
                f"HF_ENDPOINT is {self.endpoint!r}.", "Expected it to begin with https://.",
                f"Set it to the whole address, such as https://{self.endpoint or 'huggingface.co'}, or unset it.",
            )
        self._token, self._look_up = get_token, try_to_load_from_cache

    def headers(self) -> dict[str, str]:
        token = self._token()
        # Compressed answers would have another length than the file; nameless programs are turned away by some servers.
        headers = {"Accept-Encoding": "identity", "User-Agent": "hunyuan-foley"}
        return headers | ({"Authorization": f"Bearer {token}"} if token else {})

    def page(self, repository: str) -> str:
        return f"{self.endpoint}/{repository}"

    def repository(self, name: str, wanted: tuple[str, ...]) -> Repository:
        """What is known of a repository; offline only those of its `wanted` files that the cache has.

        Raises:
            DownloadError: of the kind that says what is wrong.
        """
        if self.offline:
            return self._from_cache(name, wanted)
        url = f"{self.endpoint}/api/models/{quote(name)}?blobs=true"
        said = connection.read_json(url, self.headers(), TIMEOUT, name)
        commit = said.get("sha")
        if not isinstance(commit, str) or not isinstance(said.get("siblings"), list):
            raise DownloadError(
                f"What {self.endpoint} says of {name} has no commit or no files.",
                "Expected the description of a repository.", "Check HF_ENDPOINT.",
            )
        files = filter(None, (self._file(name, commit, entry) for entry in said["siblings"]))
        return Repository(name, {file.name: file for file in files}, _licence(said, self.page(name)))

    def _file(self, repository: str, commit: str, entry: dict) -> HubFile | None:
        """None where the hub does not tell a file's size and hash: such a file could not be checked."""
        large = entry.get("lfs") or {}
        name, size = entry.get("rfilename"), large.get("size", entry.get("size"))
        digest = large.get("sha256") or entry.get("blobId")
        if not name or size is None or not digest:
            return None
        url = f"{self.endpoint}/{repository}/resolve/{commit}/{quote(name)}"
        return HubFile(repository, name, commit, size, digest, url, self._cached(repository, name, commit))

    def _cached(self, repository: str, name: str, commit: str | None) -> Path | None:
        found = self._look_up(repository, name, revision=commit)
        return Path(found) if isinstance(found, str) else None

    def _from_cache(self, name: str, wanted: tuple[str, ...]) -> Repository:
        files = {}
        for file in wanted:
            path = self._cached(name, file, None)
            if path is not None:
                # The cache keeps each file under its hash; the names that people see are links to those.
                blob = path.resolve()
                files[file] = HubFile(name, file, path.parent.name, blob.stat().st_size, blob.name, "", path)
        return Repository(name, files, f"as on {self.page(name)}, which cannot be read without a connection")

    def choose(self, repository: Repository, names: tuple[str, ...]) -> HubFile:
        """The first of `names` that is there. NotOnHubError or, offline, UnreachableError if none is."""
        for name in names:
            if name in repository.files:
                return repository.files[name]
        if self.offline:
            raise UnreachableError(
                f"HF_HUB_OFFLINE is set, and the cache has no {' or '.join(names)} of {repository.name}.",
                "Expected it there, because nothing is fetched.",
                "Unset HF_HUB_OFFLINE, or copy the cache from another machine.",
            )
        raise NotOnHubError(
            f"{repository.name} has no {' or '.join(names)}; it has {', '.join(sorted(repository.files)) or 'no files'}.",
            "Expected the released file.", "Check HF_ENDPOINT, and the repository's page on the hub.",
        )


def _licence(said: dict, page: str) -> str:
    """As the card of the repository has it, with the place to read it."""
    card = said.get("cardData") or {}
    licence, name, link = (card.get(key) for key in ("license", "license_name", "license_link"))
    words = f"{licence} ({name})" if licence and name else name or licence or "not named by the hub"
    place = link if str(link).startswith("http") else f"{page}/blob/main/{link}" if link else page
    return f"{words}, {place}"

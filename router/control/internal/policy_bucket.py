"""A JetStream key-value bucket as policies use it: immutable parts, and one root that names those that count.

Owns subjects, requests and their errors; does not own what parts and root hold (`policies_jetstream`). One law:
only who has read a root replaces it (compare and set), so no writer undoes another's work.

Requests alone are used, no consumers: a request is answered or it fails, and nothing is left to be watched.
"""

import contextlib
from collections.abc import Iterator

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import Header, KeyValueConfig, StorageType
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from router.control.nats_link import Link

REQUEST_S = 2.0
"""For the answer to one request."""

ROOT = "root"
PARTS = "parts"

# Of nats-server: a key's last revision is another, in both of its texts.
_WRONG_LAST_SEQUENCE = (10071, 10164)
_STREAM_NOT_FOUND = 10059
_HEADERS_BYTES = 512
"""More than the headers of any message here."""


class BucketError(Exception):
    """The bucket cannot be read or written at present; the text says why."""


class Conflict(BucketError):
    """The root was replaced meanwhile."""


class PartMissing(BucketError):
    """A part is not there, or not any more."""


class TooLarge(BucketError):
    """A value is larger than the NATS server takes."""


class Bucket:
    """The bucket over one connection; of no use once that is lost.

    Args:
        link: the connection.
        name: of the bucket.
        replicas: it is made with, if it has to be made.
    """

    def __init__(self, link: Link, name: str, replicas: int) -> None:
        self._link = link
        self._client: Client = link.client
        self._jetstream: JetStreamContext = self._client.jetstream(timeout=REQUEST_S)
        self._name = name
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._replicas = replicas
        self._direct = False

    async def open(self) -> int:
        """Make the bucket if it is missing; return how many replicas it has. Raises `BucketError`."""
        with _errors(self._link.address):
            try:
                info = await self._jetstream.stream_info(self._stream)
            except NotFoundError:
                await self._make()
                info = await self._jetstream.stream_info(self._stream)
        self._direct = bool(info.config.allow_direct)
        return info.config.num_replicas or 1

    async def _make(self) -> None:
        config = KeyValueConfig(
            bucket=self._name,
            description="Network policies of the router",
            history=1,
            storage=StorageType.FILE,
            replicas=self._replicas,
            direct=True,
        )
        await self._jetstream.create_key_value(config)

    async def root(self) -> tuple[int, bytes]:
        """Return the root's revision and content; 0 and nothing if there was never one.

        It is the leader that answers, so what was written before the call is seen. Raises `BucketError`.
        """
        with _errors(self._link.address):
            try:
                found = await self._jetstream.get_msg(self._stream, subject=self._prefix + ROOT)
            except NotFoundError as error:
                if error.err_code == _STREAM_NOT_FOUND:
                    raise
                return 0, b""
            return found.seq or 0, found.data or b""

    async def part(self, part: str) -> bytes:
        """Return a part's content. Raises `PartMissing` and `BucketError`."""
        with _errors(self._link.address):
            subject = self._part_subject(part)
            try:
                found = await self._jetstream.get_msg(self._stream, subject=subject, direct=self._direct)
            except NotFoundError as error:
                raise PartMissing(f"the policies' part {part} is missing") from error
            return found.data or b""

    async def write_part(self, part: str, content: bytes) -> None:
        """Write a part under a name that was never used. Raises `TooLarge` and `BucketError`."""
        await self._write(self._part_subject(part), content, {})

    async def write_root(self, content: bytes, revision: int) -> int:
        """Replace the root of this revision; return the new one's.

        Raises:
            Conflict: the root is another by now; nothing was written.
            BucketError: it may have been written or not.
        """
        return await self._write(
            self._prefix + ROOT, content, {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(revision)}
        )

    async def _write(self, subject: str, content: bytes, headers: dict[str, str]) -> int:
        limit = self._client.max_payload
        if len(content) + _HEADERS_BYTES > limit:
            text = f"{len(content)} bytes of policies in one value, but max_payload of the NATS server is {limit}"
            raise TooLarge(text)
        with _errors(self._link.address):
            written = await self._jetstream.publish(subject, content, stream=self._stream, headers=headers)
            return written.seq

    async def remove_part(self, part: str) -> None:
        """Remove a part without a trace. Raises `BucketError`."""
        with _errors(self._link.address):
            await self._jetstream.purge_stream(self._stream, subject=self._part_subject(part))

    async def parts(self) -> list[str]:
        """Return the names of all parts there are. Raises `BucketError`."""
        prefix = self._part_subject("")
        with _errors(self._link.address):
            info = await self._jetstream.stream_info(self._stream, subjects_filter=f"{prefix}>")
        return [subject.removeprefix(prefix) for subject in info.state.subjects or {}]

    def _part_subject(self, part: str) -> str:
        return f"{self._prefix}{PARTS}.{part}"


@contextlib.contextmanager
def _errors(address: str) -> Iterator[None]:
    """Say what a failed request means for policies."""
    try:
        yield
    except BucketError:
        raise
    except APIError as error:
        if error.err_code in _WRONG_LAST_SEQUENCE:
            raise Conflict("another router has changed the policies meanwhile") from error
        raise BucketError(f"NATS at {address}: {_reason(error)}") from error
    except NoStreamResponseError as error:
        raise BucketError(f"NATS at {address}: the bucket is not there") from error
    except TimeoutError as error:
        raise BucketError(f"NATS at {address}: no answer within {REQUEST_S:g} s") from error
    except (nats.errors.Error, OSError, ValueError, LookupError, TypeError) as error:
        # The last three come from answers that are not what the library expects.
        raise BucketError(f"NATS at {address}: {str(error) or type(error).__name__}") from error


def _reason(error: APIError) -> str:
    if isinstance(error, ServiceUnavailableError) and not error.description:
        return "JetStream is not enabled on this server (nats-server --jetstream)"
    return error.description or type(error).__name__

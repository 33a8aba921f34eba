"""Dropsonde envelopes: the protobuf messages in which Cloud Foundry's components tell metrics, requests and logs.

Owns the messages' definitions and their encoding; does not own where they are sent, nor what is worth telling.
The numbers are those of github.com/cloudfoundry/dropsonde-protocol (``envelope``, ``http``, ``log``, ``metric``
and ``uuid.proto``, proto2). One law: a message is encoded in pieces that are whole fields, which protobuf allows
to be joined in any order, so what does not change (origin, an instance and its tags) is encoded once.

Enumerations are declared as the integers they are on the wire: a method that the protocol has no number for is 0
there, as Go's maps make it, which a closed enumeration would refuse.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HTTP_START_STOP, LOG_MESSAGE, VALUE_METRIC, COUNTER_EVENT = 4, 5, 6, 7
"""``Envelope.EventType``."""

CLIENT, SERVER = 1, 2
"""``PeerType``: the request was made, or received, by who tells of it."""

OUT, ERR = 1, 2
"""``LogMessage.MessageType``."""

# In the order of their numbers, from 1.
_METHODS = """
GET POST PUT DELETE HEAD ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DEBUG LABEL LINK LOCK MERGE
MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH PRI PROPFIND PROPPATCH
REBIND REPORT SEARCH SHOWMETHOD SPACEJUMP TEXTSEARCH TRACE TRACK UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE
UPDATEREDIRECTREF VERSION-CONTROL
"""
METHODS: dict[bytes, int] = {name.encode(): number for number, name in enumerate(_METHODS.split(), 1)}
"""``Method``, by the name in a request line."""

_Field = descriptor_pb2.FieldDescriptorProto
_REQUIRED, _OPTIONAL, _REPEATED = _Field.LABEL_REQUIRED, _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
_TYPES = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
_UUID = {"low": (1, _REQUIRED, "uint64"), "high": (2, _REQUIRED, "uint64")}
_TAG = {"key": (1, _OPTIONAL, "string"), "value": (2, _OPTIONAL, "string")}
_VALUE = {"name": (1, _REQUIRED, "string"), "value": (2, _REQUIRED, "double"), "unit": (3, _REQUIRED, "string")}
_COUNTER = {"name": (1, _REQUIRED, "string"), "delta": (2, _REQUIRED, "uint64"), "total": (3, _OPTIONAL, "uint64")}
_LOG = {
    "message": (1, _REQUIRED, "bytes"),
    "message_type": (2, _REQUIRED, "int32"),
    "timestamp": (3, _REQUIRED, "int64"),
    "app_id": (4, _OPTIONAL, "string"),
    "source_type": (5, _OPTIONAL, "string"),
    "source_instance": (6, _OPTIONAL, "string"),
}
_HTTP = {
    "startTimestamp": (1, _REQUIRED, "int64"),
    "stopTimestamp": (2, _REQUIRED, "int64"),
    "requestId": (3, _REQUIRED, "UUID"),
    "peerType": (4, _REQUIRED, "int32"),
    "method": (5, _REQUIRED, "int32"),
    "uri": (6, _REQUIRED, "string"),
    "remoteAddress": (7, _REQUIRED, "string"),
    "userAgent": (8, _REQUIRED, "string"),
    "statusCode": (9, _REQUIRED, "int32"),
    "contentLength": (10, _REQUIRED, "int64"),
    # 11 was the parent's request id.
    "applicationId": (12, _OPTIONAL, "UUID"),
    "instanceIndex": (13, _OPTIONAL, "int32"),
    "instanceId": (14, _OPTIONAL, "string"),
    "forwarded": (15, _REPEATED, "string"),
}
_ENVELOPE = {
    "origin": (1, _REQUIRED, "string"),
    "eventType": (2, _REQUIRED, "int32"),
    "timestamp": (6, _OPTIONAL, "int64"),
    "httpStartStop": (7, _OPTIONAL, "HttpStartStop"),
    "logMessage": (8, _OPTIONAL, "LogMessage"),
    "valueMetric": (9, _OPTIONAL, "ValueMetric"),
    "counterEvent": (10, _OPTIONAL, "CounterEvent"),
    "deployment": (13, _OPTIONAL, "string"),
    "job": (14, _OPTIONAL, "string"),
    "index": (15, _OPTIONAL, "string"),
    "ip": (16, _OPTIONAL, "string"),
    # A map is a repeated entry on the wire.
    "tags": (17, _REPEATED, "Tag"),
}


_DEFINITIONS: dict[str, dict[str, tuple[int, Any, str]]] = {
    "UUID": _UUID,
    "Tag": _TAG,
    "ValueMetric": _VALUE,
    "CounterEvent": _COUNTER,
    "LogMessage": _LOG,
    "HttpStartStop": _HTTP,
    "Envelope": _ENVELOPE,
}


def messages(opaque: bool) -> Mapping[str, Any]:
    """Build the message classes, by name.

    Args:
        opaque: messages within messages are fields of bytes, which is the same on the wire: whoever encodes can
            then give what was encoded before, instead of having it copied field by field.
    """
    file = descriptor_pb2.FileDescriptorProto(name="router/dropsonde.proto", package="events", syntax="proto2")
    for name, fields in _DEFINITIONS.items():
        message = file.message_type.add(name=name)
        for field, (number, label, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=label)
            if kind in _TYPES:
                added.type = _TYPES[kind]
            elif opaque:
                added.type = _Field.TYPE_BYTES
            else:
                added.type = _Field.TYPE_MESSAGE
                added.type_name = f".events.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"events.{name}"))
        for name in _DEFINITIONS
    }


_CLASSES = messages(opaque=True)
_Envelope = _CLASSES["Envelope"]
_HttpStartStop = _CLASSES["HttpStartStop"]
_LogMessage = _CLASSES["LogMessage"]
_ValueMetric = _CLASSES["ValueMetric"]
_CounterEvent = _CLASSES["CounterEvent"]
_Uuid = _CLASSES["UUID"]
_Tag = _CLASSES["Tag"]


class Http(NamedTuple):
    """What `Encoder.http` tells of one request; texts in UTF-8."""

    start_ns: int
    """Nanoseconds since the epoch: received (server) or sent (client)."""
    stop_ns: int
    request_id: bytes
    """Made by `encode_uuid`."""
    peer: int
    """`CLIENT` or `SERVER`."""
    method: bytes
    uri: str
    remote: str
    """``ip:port`` of the client."""
    user_agent: str
    status: int
    """0 if there was no response."""
    length: int
    """Bytes of the response's body; -1 if unknown."""
    forwarded: Sequence[str] = ()
    """Elements of X-Forwarded-For."""


class Instance:
    """What is the same in every envelope about one instance of an app, prepared.

    Args:
        app: the app's guid; left out of HttpStartStop if it is no uuid.
        index: its number; left out if it is none.
        instance: its id.
        tags: of the envelope.

    Attributes:
        fields: the end of an HttpStartStop.
        tags: a piece of an envelope.
    """

    __slots__ = ("app", "fields", "tags")

    def __init__(self, app: str, index: str, instance: str, tags: Mapping[str, str]) -> None:
        self.app = app
        self.tags = encode_tags(tags.items())
        event = _HttpStartStop()
        uuid = encode_uuid(app)
        if uuid:
            event.applicationId = uuid
        if index.isascii() and index.isdigit() and int(index) < 2**31:
            event.instanceIndex = int(index)
        if instance:
            event.instanceId = instance
        self.fields: bytes = event.SerializePartialToString()


class Encoder:
    """Encodes envelopes of one origin. Times are nanoseconds since the epoch.

    Args:
        origin: the component, ``gorouter``.
        deployment: and the others: where it runs; agents fill in what is empty.
    """

    def __init__(self, origin: str, *, deployment: str = "", job: str = "", index: str = "", ip: str = "") -> None:
        place = {"deployment": deployment, "job": job, "index": index, "ip": ip}
        known = {name: value for name, value in place.items() if value}
        self._constant: bytes = _Envelope(origin=origin, **known).SerializePartialToString()

    def value(self, name: str, value: float, unit: str, now_ns: int) -> bytes:
        """Encode a value at this moment."""
        event = _ValueMetric(name=name, value=value, unit=unit).SerializeToString()
        return self._seal(_Envelope(eventType=VALUE_METRIC, timestamp=now_ns, valueMetric=event))

    def counter(self, name: str, delta: int, now_ns: int) -> bytes:
        """Encode by how much a counter has grown since it was told last."""
        event = _CounterEvent(name=name, delta=delta).SerializeToString()
        return self._seal(_Envelope(eventType=COUNTER_EVENT, timestamp=now_ns, counterEvent=event))

    def log(self, line: bytes, instance: Instance, source_type: str, source_instance: str, now_ns: int) -> bytes:
        """Encode a line for the log stream of the instance's app."""
        event = _LogMessage(
            message=line,
            message_type=OUT,
            timestamp=now_ns,
            app_id=instance.app,
            source_type=source_type,
            source_instance=source_instance,
        ).SerializeToString()
        return self._seal(_Envelope(eventType=LOG_MESSAGE, timestamp=now_ns, logMessage=event)) + instance.tags

    def http(self, request: Http, instance: Instance, now_ns: int, tags: bytes = b"") -> bytes:
        """Encode the life of a request.

        Args:
            tags: made by `encode_tags`, beside those of the instance.
        """
        event = _HttpStartStop(
            startTimestamp=request.start_ns,
            stopTimestamp=request.stop_ns,
            requestId=request.request_id,
            peerType=request.peer,
            method=METHODS.get(request.method, 0),
            uri=request.uri,
            remoteAddress=request.remote,
            userAgent=request.user_agent,
            statusCode=request.status,
            contentLength=request.length,
            forwarded=request.forwarded,
        ).SerializeToString()
        envelope = _Envelope(eventType=HTTP_START_STOP, timestamp=now_ns, httpStartStop=event + instance.fields)
        return self._seal(envelope) + instance.tags + tags

    def _seal(self, envelope: Any) -> bytes:
        encoded: bytes = envelope.SerializePartialToString()
        return self._constant + encoded


def encode_tags(tags: Iterable[tuple[str, str]]) -> bytes:
    """Return tags as a piece of an envelope."""
    entries = [_Tag(key=name, value=value).SerializeToString() for name, value in tags]
    encoded: bytes = _Envelope(tags=entries).SerializePartialToString()
    return encoded


def encode_uuid(text: str) -> bytes:
    """Return the protocol's UUID of a uuid's text, two little-endian numbers; nothing if the text is no uuid."""
    try:
        octets = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return b""
    if len(octets) != 16:
        return b""
    low, high = int.from_bytes(octets[:8], "little"), int.from_bytes(octets[8:], "little")
    encoded: bytes = _Uuid(low=low, high=high).SerializeToString()
    return encoded


NO_INSTANCE = Instance("", "", "", {})

"""One request and its response, from the parsed head to the log line.

Owns its life after an endpoint was chosen: passing bytes, flow control, the end. The decisions before that are
`proxy.forward`'s; what is known about it is in `proxy.exchange_state`. One law: every exchange, however it ends,
ends in `finish`, exactly once.
"""

from time import monotonic

from router.backend.failure import TIMEOUT, BackendFailure
from router.proxy.client import NO_LENGTH, UNKNOWN_LENGTH
from router.proxy.exchange_state import ExchangeState
from router.proxy.reply import Reply
from router.proxy.rewrite import response_lines
from router.wire.http1 import CHUNKED, UNTIL_CLOSE, ResponseHead


class Exchange(ExchangeState):
    """A request being served. Made by a frontend, dead after `finish`."""

    # The request, as the frontend reads it.

    def request_body(self, piece: bytes) -> None:
        """Pass on body bytes; only called after `Client.accept_body`, and until the exchange is finished."""
        self.bytes_in += len(piece)
        connection = self.connection
        if connection is not None:
            self.body_sent = True
            connection.send_body(piece, self.head.framing == CHUNKED)

    def request_end(self, trailers: list[bytes]) -> None:
        """The request body is complete."""
        self.request_complete = True
        connection = self.connection
        if connection is not None:
            self.body_sent = True
            connection.send_end(trailers, self.head.framing == CHUNKED)
        if self.response_ended:
            self._close_and_finish()

    def invite(self) -> None:
        """Tell the client to send its body: the backend has had its time to say so, and many never do."""
        self.invite_at = 0.0
        if self.connection is None or self.body_sent or self.response_started or self.invited:
            return
        self.invited = True
        self.client.send_interim(100, [])

    def _close_and_finish(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            # What is written may not be read yet.
            connection.close()
        self.finish()

    def client_gone(self) -> None:
        """The client closed its connection: whatever is being done for it stops."""
        if self.finished:
            return
        self.proxy.counters.client_aborts += 1
        self._drop_backend()
        if self.tunnelling or self.response_ended:
            pass
        elif self.response_started:
            self.router_error = self.router_error or b"client-conn-closed-during-response-streaming"
        else:
            self.status = 499
            self.router_error = b"endpoint_failure (context canceled)"
        self.finish()

    def break_off(self, reply: Reply) -> None:
        """End the exchange before its time: with this reply, or by cutting what has been answered already."""
        self._drop_backend()
        if self.response_started:
            self.client.cut()
            self.finish()
        else:
            self.answer(reply)

    # The response, as the backend connection reads it.

    def interim_response(self, head: ResponseHead) -> None:
        if head.status == 100:
            self.invite_at = 0.0
            if self.invited:
                return
        if self.head.minor:
            self.client.send_interim(head.status, head.lines)

    def response_head(self, head: ResponseHead, body: bytes, complete: bool) -> None:
        if self.counted:
            self.uncount()
        self.response_started = True
        self.status = head.status
        special = head.special
        if b"x-cf-routererror" in special:
            self.router_error = special[b"x-cf-routererror"]
        proxy = self.proxy
        lines = response_lines(head, self.request_id, proxy.date_line)
        if proxy.dresses or b"set-cookie" in special or (not self.plain and (self.wanted or self.service)):
            lines = proxy.dress(self, head, lines)
        if proxy.observers:
            self._observe_head()
        if head.length >= 0 and head.status != 204:
            length = head.length
        elif head.framing == CHUNKED or head.framing == UNTIL_CLOSE:
            length = UNKNOWN_LENGTH
        else:
            length = NO_LENGTH
        self.bytes_out = len(body)
        if complete:
            self._response_over()
        self.client.send_response(head.status, lines, length, body, complete)
        if complete and self.connection is None:
            self.finish()

    def _response_over(self) -> None:
        self.response_ended = True
        connection = self.connection
        if not self.full_duplex or (connection is not None and connection.exchange is not self):
            self.connection = None

    def _observe_head(self) -> None:
        now = self.headed_at = monotonic()
        for observer in self.proxy.observers:
            observer.attempted(self, False, now)

    def response_body(self, piece: bytes) -> None:
        self.bytes_out += len(piece)
        self.client.send_body(piece)

    def response_end(self, trailers: list[bytes]) -> None:
        self._response_over()
        if self.finished:
            return
        self.client.send_end(trailers)
        if self.connection is None:
            self.finish()

    def backend_failed(self, failure: BackendFailure) -> None:
        self.connection = None
        if self.finished:
            return
        if self.tunnelling:
            self.client.cut()
            self.finish()
        elif self.response_ended:
            self.finish()
        elif self.response_started:
            self.cut_response(failure)
        else:
            self.proxy.attempt_failed(self, failure)

    def cut_response(self, failure: BackendFailure) -> None:
        """The response cannot be completed, and too much of it is out to say so."""
        self.router_error = b"endpoint_failure (%b)" % failure.text.encode("latin-1", "replace")
        self.proxy.log.failed(self, failure, False)
        self.client.cut()
        self.finish()

    # Tunnels.

    def switched(self, head: ResponseHead, first: bytes) -> None:
        self.uncount()
        self.tunnelling = True
        self.response_started = True
        self.status = 101
        self.tunnel_idle_s = self.proxy.options.tunnel_idle_s
        self.deadline = monotonic() + self.tunnel_idle_s if self.tunnel_idle_s else 0.0
        self.proxy.counters.websocket_upgrades += 1
        if self.proxy.observers:
            self._observe_head()
        lines = response_lines(head, self.request_id, self.proxy.date_line)
        self.proxy.adorn(self, head, lines)
        lines.append(b"Upgrade: " + head.special[b"upgrade"])
        self.client.send_switch(lines)
        if first:
            self.tunnel_from_backend(first)

    def tunnel_from_client(self, piece: bytes) -> None:
        self.bytes_in += len(piece)
        if self.tunnel_idle_s:
            self.deadline = monotonic() + self.tunnel_idle_s
        if self.connection is not None:
            self.connection.send(piece)

    def tunnel_from_backend(self, piece: bytes) -> None:
        self.bytes_out += len(piece)
        if self.tunnel_idle_s:
            self.deadline = monotonic() + self.tunnel_idle_s
        self.client.send_tunnel(piece)

    def tunnel_client_eof(self) -> None:
        """The client sends no more; what the backend still sends is relayed."""
        if self.connection is not None:
            self.connection.send_eof()
        self._tunnel_eof()

    def tunnel_backend_eof(self) -> None:
        self.client.send_tunnel_eof()
        self._tunnel_eof()

    def _tunnel_eof(self) -> None:
        self.tunnel_eofs += 1
        if self.tunnel_eofs == 2:
            self._close_and_finish()

    # Flow control: whoever cannot take more stops whoever sends it.

    def client_full(self) -> None:
        if self.connection is not None:
            self.connection.pause_reading()

    def client_writable(self) -> None:
        if self.connection is not None:
            self.connection.resume_reading()

    def backend_full(self) -> None:
        self.client.pause_reading()

    def backend_writable(self) -> None:
        self.client.resume_reading()

    # The end.

    def timed_out(self) -> None:
        """``endpoint_timeout`` is over, or a tunnel was idle too long."""
        if self.tunnelling:
            self.proxy.counters.websocket_idle_timeouts += 1
            self.stop()
            return
        if not self.request_complete:
            # What is missing of the body may never come.
            self.client.close_after_response()
        failure = BackendFailure(TIMEOUT, "context deadline exceeded")
        if self.response_ended:
            self._drop_backend()
            self.finish()
        elif self.response_started:
            self._drop_backend()
            self.cut_response(failure)
        else:
            self.proxy.attempt_timed_out(self, failure)

    def answer(self, reply: Reply) -> None:
        """End the exchange with a response of the router's own."""
        if self.proxy.dresses_replies:
            reply = self.proxy.dress_reply(self, reply)
        self.status = reply.status
        self.router_error = reply.router_error
        self.response_started = True
        self.response_ended = True
        self.answered = True
        if reply.close:
            self.client.close_after_response()
        body = b"" if self.method == b"HEAD" else reply.body
        self.bytes_out = len(body)
        lines = [*reply.lines, self.proxy.date_line]
        self.client.send_response(reply.status, lines, len(reply.body), body, True)
        self.finish()

    def stop(self) -> None:
        """The worker ends: cut whatever is still going on."""
        self._drop_backend()
        self.client.cut()
        self.finish()

    def uncount(self) -> None:
        if self.counted and self.endpoint is not None:
            self.counted = False
            self.endpoint.in_flight -= 1
            if self.proxy.board is not None:
                self.proxy.board.leave(self.endpoint.endpoint_id)

    def finish(self) -> None:
        """Release, count and log. The frontend may begin the next exchange inside this call."""
        if self.finished:
            return
        self.finished = True
        if self.counted:
            self.uncount()
        if self.connection is not None:
            self._drop_backend()
        self.proxy.finished(self)
        self.client.exchange_finished()

    def _drop_backend(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.discard()
        task, self.dialling = self.dialling, None
        if task is not None:
            task.cancel()

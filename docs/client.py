"""A small typed client of Tonewall's control API, by the standard library alone: payments, events, webhooks.

    node = Tonewall("http://127.0.0.1:8080", os.environ["KEY"])
    call = node.find_call(agent="214")
    payment = node.start_payment(call, charge_amount="10.50", currency="USD", postal_code=False, key="order-1001")
    for field in payment.required:
        node.capture(payment, field)
        payment = node.wait_for(payment, lambda p: not p.partial_result)
    node.complete(payment, key="order-1001-pay")
    print(node.wait_for(payment, lambda p: p.state == "ended").result)

It retries nothing by itself: a request with an idempotency key may simply be sent again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, fields
from typing import Any, Callable, Iterator, Literal, Mapping, Optional

Field = Literal[
    "payment-card-number", "expiration-date", "security-code", "postal-code", "bank-routing-number",
    "bank-account-number", "payment-card-number-matcher", "expiration-date-matcher", "security-code-matcher",
    "postal-code-matcher", "bank-routing-number-matcher", "bank-account-number-matcher",
]
State = Literal["open", "submitted", "ended"]
Result = Literal[
    "success", "declined", "unknown", "cancelled", "caller-hung-up", "too-many-failed-attempts",
    "payment-connector-error", "expired",
]


class Problem(Exception):
    """A problem document (RFC 9457). `kind` is the last part of its type, for instance `payment-incomplete`."""

    def __init__(self, status: int, document: Mapping[str, Any]):
        self.status = status
        self.kind = str(document.get("type", "")).rpartition(":")[2]
        self.document = document
        super().__init__(f"{status} {self.kind}: {document.get('detail', '')}")


@dataclass(frozen=True)
class Payment:
    """A payment as the API shows it: marks, never digits."""

    id: str
    call: str
    state: State
    required: tuple[Field, ...] = ()
    capture: Optional[Field] = None
    partial_result: bool = False
    error_type: Optional[str] = None
    payment_card_number: Optional[str] = None
    payment_card_type: Optional[str] = None
    expiration_date: Optional[str] = None
    security_code: Optional[str] = None
    postal_code: Optional[str] = None
    bank_routing_number: Optional[str] = None
    bank_account_number: Optional[str] = None
    result: Optional[Result] = None
    payment_token: Optional[str] = None
    payment_confirmation_code: Optional[str] = None
    pay_error_code: Optional[str] = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Payment:
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in document.items() if name in known}
        return cls(**{**kept, "required": tuple(document.get("required", ()))})


class Tonewall:
    """A node, as one API key sees it."""

    def __init__(self, base: str, key: str, timeout: float = 10.0):
        self._base, self._key, self._timeout = base.rstrip("/"), key, timeout

    def _open(self, method: str, path: str, body: Optional[Mapping[str, Any]], headers: Mapping[str, str], timeout: Optional[float]) -> Any:
        request = urllib.request.Request(self._base + path, method=method, headers={"Authorization": f"Bearer {self._key}", **headers})
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise Problem(error.code, json.load(error)) from None

    def _ask(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, key: Optional[str] = None) -> Any:
        with self._open(method, path, body, {"Idempotency-Key": key} if key else {}, self._timeout) as answer:
            return json.load(answer)

    def find_call(self, **conditions: str) -> str:
        """The id of the one call that fits: `agent`, `caller`, `sip_call_id` or `reference`."""
        calls = self._ask("GET", "/v1/calls?" + urllib.parse.urlencode(conditions))["calls"]
        if len(calls) != 1:
            raise LookupError(f"{len(calls)} calls fit")
        return str(calls[0]["id"])

    def start_payment(self, call: str, key: Optional[str] = None, **wish: Any) -> Payment:
        """Begins a payment; see docs/api.md for what can be wished."""
        return Payment.of(self._ask("POST", f"/v1/calls/{call}/payments", wish, key))

    def payment(self, payment: Payment) -> Payment:
        """As it is now."""
        return Payment.of(self._ask("GET", f"/v1/calls/{payment.call}/payments/{payment.id}"))

    def capture(self, payment: Payment, field: Field) -> Payment:
        """Asks for a field; the caller keys it."""
        return self._update(payment, {"capture": field}, None)

    def complete(self, payment: Payment, key: Optional[str] = None) -> Payment:
        """Submits it."""
        return self._update(payment, {"status": "complete"}, key)

    def cancel(self, payment: Payment) -> Payment:
        """Gives it up."""
        return self._update(payment, {"status": "cancel"}, None)

    def _update(self, payment: Payment, body: Mapping[str, Any], key: Optional[str]) -> Payment:
        return Payment.of(self._ask("POST", f"/v1/calls/{payment.call}/payments/{payment.id}", body, key))

    def wait_for(self, payment: Payment, done: Callable[[Payment], bool], every: float = 0.2, longest: float = 120.0) -> Payment:
        """Asks until `done`; for a screen, follow `events` instead."""
        deadline = time.monotonic() + longest
        while not done(payment := self.payment(payment)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"payment {payment.id} is {payment.state}")
            time.sleep(every)
        return payment

    def events(self, call: Optional[str] = None, after: Optional[str] = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Events of a call, or of all, with their ids; give the last id as `after` to go on where a stream broke off."""
        path = f"/v1/calls/{call}/events" if call else "/v1/events"
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        # The stream sends a comment every 15 s: longer silence means that it is dead.
        with self._open("GET", path, None, headers, 45.0) as stream:
            id = ""
            for raw in stream:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("id: "):
                    id = line[4:]
                elif line.startswith("data: "):
                    yield id, json.loads(line[6:])


def verified(secret: str, headers: Mapping[str, str], body: bytes, now: Optional[float] = None) -> bool:
    """Whether a webhook is Tonewall's, and not five minutes old. `headers` in lower case."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    stamp = headers["webhook-timestamp"]
    signed = f"{headers['webhook-id']}.{stamp}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = [signature.removeprefix("v1,") for signature in headers["webhook-signature"].split()]
    fresh = abs((time.time() if now is None else now) - int(stamp)) < 300
    return fresh and any(hmac.compare_digest(wanted, signature) for signature in given)

"""What a message looks like: its document, its text, and what a template makes of it. Pure."""

from __future__ import annotations

import json
from string import Template
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from flowsched.errors import shortened
from flowsched.model import Webhook
from flowsched.ops.logs import stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flowsched.model import Alert, AlertKind, Channel, Message

VERSION = 1
"""Of the document: it changes where a key changes its meaning or is left out."""

LONGEST_SUBJECT = 150
LONGEST_SLACK = 3_500
"""Characters; Slack itself cuts longer ones."""

_ROOM = UUID("8f0a4c0e-3c0b-5d53-9c0f-1d1f6f0f5c11")
_SHOWN = (
    *("owner", "target", "flow", "task", "instance", "attempts", "reason"),
    *("problems", "source", "catalog", "commit"),
)
_SAID = ("reason", "problems")


def headline(message: Message) -> str:
    """Return one line that says it all, as far as one line can."""
    first = told(lead(message))
    others = message.count - 1
    return f"{first} (and {others} more)" if others else first


def lead(message: Message) -> Alert:
    """Return the alert that a message is named after: the first one that goes on, if any does."""
    last = _last_of_each(message)
    return next((alert for alert in message.alerts if not last[_about(alert)].over), message.alerts[0])


def told(alert: Alert) -> str:
    """Return an alert as one line."""
    again = f" (and {alert.before} more since it was last told)" if alert.before else ""
    return alert.summary + again


def text(message: Message, host: str) -> str:
    """Return all of a message, for people."""
    lines = [line for alert in message.alerts for line in (*_lines(alert), "")]
    if message.more:
        lines += [f"And more: {', '.join(f'{count} {kind}' for kind, count in message.more.items())}.", ""]
    return "\n".join([*lines, f"flowsched on {host}, {stamp(message.at)}"]) + "\n"


def _lines(alert: Alert) -> Iterator[str]:
    yield f"{'OVER' if alert.over else 'ALERT'} {alert.kind}: {told(alert)}"
    if not alert.over:
        shown = ((key, str(alert.details[key])) for key in _SHOWN if key in alert.details)
        # A reason is in the summary already, unless that was cut short.
        yield from (
            f"  {key}: {value}" for key, value in shown if key not in _SAID or value not in alert.summary
        )


def slack_text(message: Message, host: str) -> str:
    """Return a message for Slack: its three special characters escaped, and not longer than it takes."""
    plain = f"{headline(message)}\n\n{text(message, host)}" if message.count > 1 else text(message, host)
    cut = shortened(plain, LONGEST_SLACK)
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def mail_subject(message: Message) -> str:
    """Return a subject: one line, without anything that could begin another header."""
    return shortened(f"[flowsched] {' '.join(headline(message).split())}", LONGEST_SUBJECT)


def identity(alert: Alert, channel: str, drawn: float) -> UUID:
    """Return an identity for a message that begins with an alert; `drawn` is a random number."""
    return uuid5(_ROOM, f"{channel} {alert.at.isoformat()} {alert.kind} {alert.subject} {drawn!r}")


def is_told_apart(channel: Channel) -> bool:
    """Tell whether each alert is a message of its own: where a template has a place for one key."""
    template = channel.way.template if isinstance(channel.way, Webhook) else None
    return template is not None and "key" in Template(template).get_identifiers()


def document(message: Message, host: str) -> dict[str, Any]:
    """Return a message as plain JSON."""
    return {
        "version": VERSION,
        "source": "flowsched",
        "id": str(message.identity),
        "host": host,
        "at": stamp(message.at),
        "state": _state(message),
        "key": key_of(lead(message), host),
        "summary": headline(message),
        "text": text(message, host),
        "count": message.count,
        "alerts": [_alert_document(alert, host) for alert in message.alerts],
        "more": {kind.value: count for kind, count in message.more.items()},
    }


def _alert_document(alert: Alert, host: str) -> dict[str, Any]:
    return {
        "key": key_of(alert, host),
        "kind": alert.kind.value,
        "subject": alert.subject,
        "state": "over" if alert.over else "firing",
        "at": stamp(alert.at),
        "summary": told(alert),
        "before": alert.before,
        "details": dict(alert.details),
    }


def _state(message: Message) -> str:
    """Return `over` where nothing in it goes on."""
    goes_on = message.more or not all(alert.over for alert in _last_of_each(message).values())
    return "firing" if goes_on else "over"


def _last_of_each(message: Message) -> dict[tuple[AlertKind, str], Alert]:
    return {_about(alert): alert for alert in message.alerts}


def _about(alert: Alert) -> tuple[AlertKind, str]:
    return alert.kind, alert.subject


def key_of(alert: Alert, host: str) -> str:
    """Return what an alert is about: the same when it is told again, and when it is over."""
    return f"flowsched/{host}/{alert.kind}/{alert.subject}"


def filled(template: str, message: Message, host: str, secrets: Mapping[str, str]) -> str:
    """Return a template with its placeholders filled in; texts are escaped as JSON has them."""
    whole, first = document(message, host), lead(message)
    is_over = whole["state"] == "over"
    texts = {
        **{name: whole[name] for name in ("summary", "text", "state", "key", "host", "at")},
        "kind": first.kind.value,
        "subject": first.subject,
        "action": "resolve" if is_over else "trigger",
        "severity": "info" if is_over else "error",
        **secrets,
    }
    values = {"count": whole["count"], "alerts": whole["alerts"], "document": whole}
    return Template(template).substitute(
        {name: json.dumps(each)[1:-1] for name, each in texts.items()}
        | {name: json.dumps(each) for name, each in values.items()}
    )

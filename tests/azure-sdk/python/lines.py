"""Calls in, answers and events out: one JSON object per line, so that a test in any language can steer a script.

    -> {"id": 1, "call": "get_twin"}
    <- {"id": 1, "result": {...}}   or   {"id": 1, "error": "Type: what was wrong"}
    <- {"event": "desired", ...}    at any time

Over standard input and output, or, where somebody else owns those (a module that an edge started), over a TCP connection to
the address in TALK_TO.
"""

import json
import os
import socket
import sys
import threading
import traceback

_lock = threading.Lock()


def _voice():
    """What is read from and written to."""
    address = os.environ.get("TALK_TO")
    if address is None:
        return sys.stdin, sys.stdout
    host, port = address.rsplit(":", 1)
    stream = socket.create_connection((host, int(port))).makefile("rw", encoding="utf-8")
    return stream, stream


_hears, _speaks = _voice()


def say(said):
    """Writes one line; safe from any thread."""
    text = json.dumps(said, default=str)
    with _lock:
        _speaks.write(text + "\n")
        _speaks.flush()


def event(kind, **more):
    say({"event": kind, **more})


def serve(calls):
    """Answers calls from a table of functions until the input ends; each on a thread of its own, so that one that
    waits (for a hub that is away) holds up no other."""
    for line in _hears:
        call = json.loads(line)
        threading.Thread(target=_answer, args=(calls, call), daemon=True).start()


def _answer(calls, call):
    number, name = call.pop("id"), call.pop("call")
    try:
        say({"id": number, "result": calls[name](**call)})
    except BaseException as error:  # noqa: B902, whatever the SDK raises is the answer
        traceback.print_exc()
        say({"id": number, "error": "{}: {}".format(type(error).__name__, error)})

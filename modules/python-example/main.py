"""An edge module in Python on the unmodified azure-iot-device: the moving average of a number in the messages it gets.

input    `input`: JSON bodies
output   `mean`: {"path", "mean", "count"} for each body that has a number at the path
twin     desired `path` (members joined by dots, default `cpu.percent`) and `window` (messages, 1 to 1000, default 10);
         reported: what is in force
method   `reset`: forgets what was seen; answers how many messages that were
"""

import collections
import json
import logging
import signal
import threading

from azure.iot.device import IoTHubModuleClient, Message, MethodResponse

PATH_DEFAULT = "cpu.percent"
WINDOW_DEFAULT = 10
WINDOW_MAX = 1000

log = logging.getLogger("python-example")


class Mean:
    """The last numbers and their mean. Handlers run on threads of their own, hence the lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.path = PATH_DEFAULT
        self.numbers = collections.deque(maxlen=WINDOW_DEFAULT)

    def settings(self):
        with self.lock:
            return {"path": self.path, "window": self.numbers.maxlen}

    def change(self, desired):
        """Takes what the twin says; what cannot be used is left alone."""
        path, window = desired.get("path"), desired.get("window")
        with self.lock:
            if isinstance(path, str) and path:
                self.path = path
            if isinstance(window, int) and not isinstance(window, bool) and 1 <= window <= WINDOW_MAX:
                self.numbers = collections.deque(self.numbers, maxlen=window)

    def add(self, body):
        """The new mean as a body, or nothing when the message has no number at the path."""
        with self.lock:
            number = at(body, self.path)
            if number is None:
                return None
            self.numbers.append(number)
            mean = sum(self.numbers) / len(self.numbers)
            return {"path": self.path, "mean": mean, "count": len(self.numbers)}

    def reset(self):
        with self.lock:
            count = len(self.numbers)
            self.numbers.clear()
            return count


def at(body, path):
    """The number at a path such as `cpu.percent`, or nothing."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def main():
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    mean = Mean()
    client = IoTHubModuleClient.create_from_edge_environment()

    def on_message(message):
        result = mean.add(message.data)
        if result is not None:
            answer = Message(json.dumps(result), content_encoding="utf-8", content_type="application/json")
            client.send_message_to_output(answer, "mean")

    def on_method(request):
        known = request.name == "reset"
        payload = {"forgotten": mean.reset()} if known else {"error": "there is no method " + request.name}
        answer = MethodResponse.create_from_method_request(request, 200 if known else 404, payload)
        client.send_method_response(answer)

    def on_desired(desired):
        mean.change(desired)
        client.patch_twin_reported_properties(mean.settings())

    client.connect()
    client.on_message_received = on_message
    client.on_method_request_received = on_method
    client.on_twin_desired_properties_patch_received = on_desired
    on_desired(client.get_twin()["desired"])
    log.info("ready: %s", mean.settings())

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    client.shutdown()


if __name__ == "__main__":
    main()

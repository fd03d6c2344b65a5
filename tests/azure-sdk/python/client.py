"""A device or module on the unmodified azure-iot-device, steered by a test (see lines.py).

It is the same against a hub, against an edge hub as a leaf device (`GatewayHostName` in the connection string), and as a
module of an edge (`create` with `"how": "edge_environment"`): only what it is created from differs.
"""

import os
import threading
import time

from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, exceptions

from lines import event, serve

client = None
is_module = False
answers = {}
told_to_stop = threading.Event()


def create(how, kind, text=None, ca_file=None, options=None):
    """`how`: connection_string, sastoken or edge_environment; `kind`: device or module."""
    global client, is_module
    options = dict(options or {})
    if ca_file is not None:
        with open(ca_file, encoding="utf-8") as ca:
            options["server_verification_cert"] = ca.read()
    is_module = kind == "module"
    maker = IoTHubModuleClient if is_module else IoTHubDeviceClient
    if how == "edge_environment":
        client = maker.create_from_edge_environment(**options)
    else:
        client = getattr(maker, "create_from_" + how)(text, **options)
    client.on_connection_state_change = lambda: event("connection", connected=client.connected)
    client.on_new_sastoken_required = lambda: event("new_sastoken_required")
    client.on_background_exception = lambda error: event(
        "background_exception", error=type(error).__name__, cause=type(error.__cause__).__name__
    )


def listen(methods=False, desired=False, messages=False):
    """Subscribes; what arrives becomes events `method`, `desired` and `message`."""
    if methods:
        client.on_method_request_received = on_method
    if desired:
        client.on_twin_desired_properties_patch_received = lambda patch: event("desired", patch=patch)
    if messages:
        client.on_message_received = lambda message: event("message", **described(message))


def on_method(request):
    event("method", name=request.name, payload=request.payload)
    answer = answers.get(request.name, {"status": 200, "payload": {"echo": request.payload}})
    if answer is not None:
        client.send_method_response(
            MethodResponse.create_from_method_request(request, answer["status"], answer["payload"])
        )


def described(message):
    data = message.data
    return {
        "data": data.decode("utf-8") if isinstance(data, bytes) else data,
        "properties": message.custom_properties,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "user_id": message.user_id,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "input": message.input_name,
        "ack": message.ack,
    }


def send(data, output=None, properties=None, **system):
    """Returns when the SDK has the acknowledgement."""
    message = Message(data)
    message.custom_properties = dict(properties or {})
    for name, value in system.items():
        setattr(message, name, value)
    if output is None:
        client.send_message(message)
    else:
        client.send_message_to_output(message, output)


def send_many(prefix, count, output=None, pause=0, keep_trying=False):
    """`count` messages one after the other, bodies `prefix-0` and on, `pause` seconds apart; says each acknowledgement.
    `keep_trying`: what the SDK gives up because there is no hub is tried again, as an application would."""
    for number in range(count):
        while True:
            try:
                send("{}-{}".format(prefix, number), output)
                break
            except exceptions.ClientError as error:
                if not keep_trying:
                    raise
                event("tried", number=number, error=type(error).__name__)
                time.sleep(0.5)
        event("sent", prefix=prefix, number=number)
        time.sleep(pause)


def send_until_told(prefix, output=None, pause=0):
    """As many messages as there is time for until `stop_sending` is called, otherwise like `send_many`; how many."""
    told_to_stop.clear()
    number = 0
    while not told_to_stop.is_set():
        send("{}-{}".format(prefix, number), output)
        event("sent", prefix=prefix, number=number)
        number += 1
        time.sleep(pause)
    return number


def answer(name, status=200, payload=None, silent=False):
    """What the next requests of this method get."""
    answers[name] = None if silent else {"status": status, "payload": payload}


def environment():
    """What an edge put around this module; values that are secret are none of these."""
    return {name: value for name, value in os.environ.items() if name.startswith("IOTEDGE_")}


serve(
    {
        "create": create,
        "listen": listen,
        "send": send,
        "send_many": send_many,
        "send_until_told": send_until_told,
        "stop_sending": told_to_stop.set,
        "answer": answer,
        "environment": environment,
        "connect": lambda: client.connect(),
        "disconnect": lambda: client.disconnect(),
        "shutdown": lambda: client.shutdown(),
        "connected": lambda: client.connected,
        "get_twin": lambda: client.get_twin(),
        "patch_reported": lambda patch: client.patch_twin_reported_properties(patch),
        "update_sastoken": lambda text: client.update_sastoken(text),
        "invoke_method": lambda params, device_id, module_id=None: client.invoke_method(params, device_id, module_id),
    }
)

"""The service side on the unmodified azure-iot-hub (its REST part), steered by a test (see lines.py).

Trust comes through REQUESTS_CA_BUNDLE; the connection string through HUB_CONNECTION_STRING.
"""

import os

from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ConfigurationContent,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

from lines import serve

registry = IoTHubRegistryManager.from_connection_string(os.environ["HUB_CONNECTION_STRING"])
configurations = IoTHubConfigurationManager.from_connection_string(os.environ["HUB_CONNECTION_STRING"])


def twin(tags=None, desired=None):
    return Twin(tags=tags, properties=TwinProperties(desired=desired) if desired is not None else None)


def method(name, payload, response_timeout, connect_timeout):
    return CloudToDeviceMethod(
        method_name=name,
        payload=payload,
        response_timeout_in_seconds=response_timeout,
        connect_timeout_in_seconds=connect_timeout,
    )


def invoke(name, device_id, module_id=None, payload=None, response_timeout=30, connect_timeout=0):
    request = method(name, payload, response_timeout, connect_timeout)
    if module_id is None:
        return registry.invoke_device_method(device_id, request)
    return registry.invoke_device_module_method(device_id, module_id, request)


def query(text, count=None):
    result = registry.query_iot_hub(QuerySpecification(query=text), None, count)
    return {"type": result.type, "continuation_token": result.continuation_token, "items": plain(result.items)}


def plain(value):
    """Models as the JSON the SDK would send."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.serialize(keep_readonly=True) if hasattr(value, "serialize") else value


def call(function):
    """Failures are answered with the status, which is what applications look at."""

    def made(**arguments):
        try:
            return plain(function(**arguments))
        except HttpOperationError as error:
            raise RuntimeError("status {}: {}".format(error.response.status_code, error.response.text)) from error

    return made


def registry_call(name):
    return call(lambda **arguments: getattr(registry, name)(**arguments))


calls = {
    name: registry_call(name)
    for name in [
        "create_device_with_sas",
        "create_device_with_x509",
        "create_device_with_certificate_authority",
        "update_device_with_sas",
        "get_device",
        "get_devices",
        "delete_device",
        "create_module_with_sas",
        "update_module_with_sas",
        "get_module",
        "get_modules",
        "delete_module",
        "get_twin",
        "get_module_twin",
        "get_service_statistics",
        "get_device_registry_statistics",
    ]
}
calls.update(
    {
        "update_twin": call(
            lambda device_id, tags=None, desired=None, etag=None: registry.update_twin(
                device_id, twin(tags, desired), etag
            )
        ),
        "replace_twin": call(
            lambda device_id, tags=None, desired=None, etag=None: registry.replace_twin(
                device_id, twin(tags, desired), etag
            )
        ),
        "update_module_twin": call(
            lambda device_id, module_id, tags=None, desired=None, etag=None: registry.update_module_twin(
                device_id, module_id, twin(tags, desired), etag
            )
        ),
        "invoke": call(invoke),
        "query": call(query),
        "apply_configuration": call(
            lambda device_id, content: configurations.apply_configuration_on_edge_device(
                device_id, ConfigurationContent(modules_content=content)
            )
        ),
    }
)
serve(calls)

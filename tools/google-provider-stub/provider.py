"""A stand-in for the provider hashicorp/google. It knows only the names and types of the arguments of resources.

With it, ``terraform validate`` refuses unknown and missing arguments, and ``terraform test`` with ``mock_provider "google"``
plans and applies. The stand-in checks no value and talks to no cloud. ``schema.py`` prints the schemas, which are in ``schema.json``
beside this file.
"""

import json
from pathlib import Path

from tf import runner, types
from tf.gen import tfplugin_pb2 as pb
from tf.iface import Provider
from tf.schema import Attribute, Block, NestedBlock, NestMode, Schema

_SCHEMAS = json.loads(Path(__file__).with_name("schema.json").read_text("utf-8"))
_PROVIDER_ARGUMENTS = ("project", "region", "zone", "credentials")


class _Nested(NestedBlock):
    """A list of blocks with a least and a greatest number of items. The framework lacks it, and Google's provider needs it."""

    def __init__(self, name, block, minimum, maximum, single):
        super().__init__(name, NestMode.Single, block, minimum or None, maximum or None)
        self.single = single

    def to_pb(self):
        modes = pb.Schema.NestedBlock.NestingMode
        bounds = {} if self.single else {"min_items": self.min_items, "max_items": self.max_items}
        nesting = modes.SINGLE if self.single else modes.LIST
        return pb.Schema.NestedBlock(type_name=self.type_name, block=self.block.to_pb(), nesting=nesting, **bounds)

    def encode(self, value):
        return value

    def decode(self, value):
        return value

    def semantically_equal(self, a, b):
        return a == b


def _kind(name):
    if isinstance(name, list):
        return types.List(_kind(name[1])) if name[0] == "list" else types.Map(_kind(name[1]))
    return {"string": types.String, "number": types.Number, "bool": types.Bool}[name]()


def _attributes(described):
    return [
        Attribute(
            name,
            _kind(given["type"]),
            required=given.get("required", False),
            optional=given.get("optional", False),
            computed=given.get("computed", False),
        )
        for name, given in described.items()
    ]


def _blocks(described):
    return [
        _Nested(
            name,
            Block(_attributes(given["block"]["attributes"]), _blocks(given["block"]["blocks"])),
            given["min"],
            given["max"],
            given["single"],
        )
        for name, given in described.items()
    ]


def _described(name, schema):
    class Described:
        def __init__(self, *_):
            pass

        @classmethod
        def get_name(cls):
            return name.removeprefix("google_")

        @classmethod
        def get_schema(cls):
            return Schema(
                attributes=_attributes(schema["attributes"]), block_types=_blocks(schema["blocks"]), version=1
            )

        def validate(self, diags, type_name, config):
            pass

    return Described


class _GoogleStub(Provider):
    """The provider, with the methods that Terraform calls before it plans."""

    def get_model_prefix(self):
        return "google_"

    def full_name(self):
        return "registry.terraform.io/hashicorp/google"

    def get_provider_schema(self, diags):
        return Schema(attributes=[Attribute(name, types.String(), optional=True) for name in _PROVIDER_ARGUMENTS])

    def validate_config(self, diags, config):
        pass

    def configure_provider(self, diags, config):
        pass

    def get_data_sources(self):
        return [_described(*item) for item in _SCHEMAS["data"].items()]

    def get_resources(self):
        return [_described(*item) for item in _SCHEMAS["resource"].items()]

    def get_functions(self):
        return []

    def new_resource(self, cls):
        return cls()

    def new_data_source(self, cls):
        return cls()


runner.run_provider(_GoogleStub())

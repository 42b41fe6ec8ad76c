"""The second opinion on our checks: asks Buf's protovalidate which fields of a message are wrong.

Usage: protovalidate_oracle.py <descriptor set>... <questions>

A question is a line of JSON, {"type": "<full name>", "message": "<base64>"}. Its answer is a line of JSON: the paths of
the wrong fields, each a list of steps, each step a list of the field's proto name and, in a list or map, the index or
the key: [[["leaves", 0], ["leaf_name"]], [["details", "k"]]].
"""

import base64
import json
import sys

import protovalidate
from protobuf import Registry
from protobuf.wkt import FileDescriptorSet


def step(element):
    """One step of a path; a number stands for an index or for a key that is a number."""
    subscript = element.subscript
    return [element.field_name] if subscript is None else [element.field_name, subscript.value]


def path(violation):
    """The path of the field that a violation is about."""
    return [step(element) for element in violation.proto.field.elements]


def main():
    *descriptor_sets, questions = sys.argv[1:]
    registry = Registry()
    for name in descriptor_sets:
        with open(name, "rb") as file:
            registry.add(FileDescriptorSet.from_binary(file.read()).to_registry())
    validator = protovalidate.Validator()
    with open(questions, encoding="utf-8") as file:
        for line in file:
            question = json.loads(line)
            kind = registry.message(question["type"]).type
            message = kind.from_binary(base64.b64decode(question["message"]))
            print(json.dumps([path(violation) for violation in validator.collect_violations(message)]))


if __name__ == "__main__":
    main()

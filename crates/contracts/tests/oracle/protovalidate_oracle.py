"""The second opinion on our checks: asks Buf's protovalidate about messages.

Usage: protovalidate_oracle.py <descriptor set> < questions > answers

A question is a line of JSON, {"type": "<full name>", "message": "<base64>"}. Its answer is a line of JSON:
the sorted paths of the fields that are wrong, in proto names, such as ["kits[0].name", "details[\"k\"]"].
"""

import base64
import json
import sys

import protovalidate
from protobuf.wkt import FileDescriptorSet


def subscript(element):
    """What stands in the brackets of a path element, brackets included; empty where there is none."""
    kind = element.subscript
    if kind is None:
        return ""
    value = kind.value
    if isinstance(value, bool):
        return f"[{str(value).lower()}]"
    if isinstance(value, str):
        return f"[{json.dumps(value, ensure_ascii=False)}]"
    return f"[{value}]"


def path(violation):
    """The path of the field that a violation is about."""
    field = violation.proto.field
    return ".".join(element.field_name + subscript(element) for element in field.elements)


def main():
    with open(sys.argv[1], "rb") as file:
        registry = FileDescriptorSet.from_binary(file.read()).to_registry()
    validator = protovalidate.Validator()
    for line in sys.stdin:
        question = json.loads(line)
        kind = registry.message(question["type"]).type
        message = kind.from_binary(base64.b64decode(question["message"]))
        paths = {path(violation) for violation in validator.collect_violations(message)}
        print(json.dumps(sorted(paths), ensure_ascii=False))


if __name__ == "__main__":
    main()

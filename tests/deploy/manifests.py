"""Checks manifests by Kubernetes' own schemas, strictly, and writes them to standard output as JSON: `manifests.py FILE...`

A list of objects with `file` and `object`. `-` is standard input, as from `kubectl kustomize`. Exits with 1 if anything is
wrong, and says all of it."""

import json
import os
import sys

import jsonschema
import kubernetes_validate
import yaml

# The first that has all that the manifests use without asking for it, and the newest that is known.
VERSIONS = ["1.30", "1.37"]
# Kinds that Kubernetes does not have itself.
OTHERS = {"PodMonitor": "podmonitor.schema.json"}


def main():
    documents, problems = [], []
    for file in sys.argv[1:]:
        for document in read(file):
            documents.append({"file": file, "object": document})
            problems.extend("%s: %s" % (file, problem) for problem in check(document))
    if problems:
        sys.exit("\n".join(problems))
    json.dump(documents, sys.stdout)


class Unique(yaml.SafeLoader):
    """YAML in which no mapping has a key twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, "there twice: %s" % twice, node.start_mark)
        return super().construct_mapping(node, deep)


def read(file):
    with sys.stdin if file == "-" else open(file) as text:
        return [document for document in yaml.load_all(text, Unique) if document is not None]


def check(document):
    kind = document.get("kind")
    if kind in OTHERS:
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), OTHERS[kind])) as file:
            validator = jsonschema.Draft202012Validator(json.load(file))
        return ["%s: %s" % (error.json_path, error.message) for error in validator.iter_errors(document)]
    problems = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            problems.append("%s, by Kubernetes %s: %s" % (kind, version, error.message))
    return problems


if __name__ == "__main__":
    main()

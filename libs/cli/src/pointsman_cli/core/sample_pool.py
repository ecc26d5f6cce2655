"""The pool that a user without manifests of their own begins with."""

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

MODEL = "llama"
LORA = "llama-sql"
POOL = "default/llama"

POOL_MANIFEST = f"""\
# The pool that `pointsman up` starts with. Edit it while the stack runs: it is read again.
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  name: llama
  namespace: default
  annotations:
    # What the pool serves; requests for another model are refused. Without it any name is accepted.
    pointsman.dev/served-models: "{MODEL},{LORA}"
    # Those of them that are LoRA adapters.
    pointsman.dev/lora-adapters: "{LORA}"
spec:
  selector:
    matchLabels:
      app: llama
  targetPorts:
    - number: 8000
  endpointPickerRef:
    name: pointsman
    port:
      number: 9002
    failureMode: FailClose
---
# Named by the header x-llm-d-inference-objective. A request that names none has priority 0.
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata:
  name: interactive
  namespace: default
spec:
  priority: 10
  poolRef:
    name: llama
---
# A negative priority is sheddable: refused first when the pool is full.
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata:
  name: batch
  namespace: default
spec:
  priority: -1
  poolRef:
    name: llama
---
# A client that asks for llama-canary gets llama nine times in ten, and the adapter once.
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata:
  name: llama-canary
  namespace: default
spec:
  poolRef:
    name: llama
  rules:
    - matches:
        - model:
            type: Exact
            value: llama-canary
      targets:
        - modelRewrite: {MODEL}
          weight: 90
        - modelRewrite: {LORA}
          weight: 10
"""


def endpoints_manifest(addresses: Sequence[tuple[str, int]]) -> str:
    """The endpoint list for model servers at (host, port)."""
    entries = [
        {"name": f"engine-{number}", "address": host, "port": port, "labels": {"app": "llama"}}
        for number, (host, port) in enumerate(addresses, start=1)
    ]
    return yaml.safe_dump({"endpoints": entries}, sort_keys=False)


def first_pool(texts: Iterable[str]) -> str | None:
    """`<namespace>/<name>` of the first InferencePool among manifest files, or `None`."""
    for text in texts:
        try:
            documents: list[Any] = list(yaml.safe_load_all(text))
        except yaml.YAMLError:
            continue  # the datalayer says what is wrong with it, and where
        for document in documents:
            if isinstance(document, dict) and document.get("kind") == "InferencePool":
                metadata = document.get("metadata") or {}
                return f"{metadata.get('namespace', 'default')}/{metadata.get('name', '')}"
    return None

"""Generates `pointsman_common/contracts` from the `.proto` files.

With `--check` it writes nothing, and fails if generating would change a byte.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]  # it ships no types

HERE = Path(__file__).parent
PROTO = HERE / "proto"
OUT = HERE / "src" / "pointsman_common" / "contracts"
MARK = '"""Generated from libs/common/proto; never edited."""\n'


def generate() -> dict[str, str]:
    """Return the generated modules, flat, by file name."""
    protos = sorted(str(path) for path in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["protoc", f"-I{PROTO}", f"--python_out={scratch}", f"--pyi_out={scratch}"]
        if protoc.main([*arguments, *protos]) != 0:
            raise SystemExit("protoc failed")
        found = {"__init__.py": MARK}
        for path in sorted(Path(scratch).rglob("*_pb2.py*")):
            text = re.sub(
                r"from pointsman\.\w+\.v1 import",
                "from pointsman_common.contracts import",
                path.read_text(),
            )
            found[path.name] = text
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        want = generate()
        have = {path.name: path.read_text() for path in OUT.glob("*.py*")}
        stale = sorted(
            name for name in want.keys() | have.keys() if want.get(name) != have.get(name)
        )
        if stale:
            sys.stderr.write(f"contracts differ from proto: {', '.join(stale)}; run `make proto`\n")
        return 1 if stale else 0
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*.py*"):
        old.unlink()
    for name, text in generate().items():
        (OUT / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

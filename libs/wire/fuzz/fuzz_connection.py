"""Coverage-guided fuzzing of the HTTP/2 core with atheris; how to run it: `README.md`.

python fuzz_connection.py server|client|bytes|hpack [libFuzzer's arguments]
"""

import sys

import atheris  # type: ignore[import-untyped]  # in an environment of its own, see README

with atheris.instrument_imports(include=["wire.http2", "wire.grpc", "hpack"]):
    from wire.testing.fuzz_targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: fuzz_connection.py {'|'.join(TARGETS)} [libFuzzer's arguments]")
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

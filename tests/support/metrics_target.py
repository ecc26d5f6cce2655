"""Stands for the engines' metrics pages: the state of a pool as a test wants it."""

from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class EngineState:
    """What one engine reports. `hang` answers nothing; `omit` leaves families out."""

    waiting: int = 0
    kv: float = 0.0
    running: int = 0
    loras: tuple[str, ...] = ()
    waiting_loras: tuple[str, ...] = ()
    max_loras: int = 4
    engine: str = "vllm"
    omit: tuple[str, ...] = ()
    hang: bool = False

    def exposition(self) -> str:
        if self.engine == "sglang":
            return (
                f"sglang:num_queue_reqs {self.waiting}\n"
                f"sglang:num_running_reqs {self.running}\n"
                f"sglang:token_usage {self.kv}\n"
            )
        running, waiting = ",".join(self.loras), ",".join(self.waiting_loras)
        families = {
            "vllm:num_requests_waiting": f"{self.waiting}",
            "vllm:num_requests_running": f"{self.running}",
            "vllm:kv_cache_usage_perc": f"{self.kv}",
        }
        lines = [
            f'# TYPE {name} gauge\n{name}{{model_name="m"}} {value}'
            for name, value in families.items()
            if name not in self.omit
        ]
        lines.append(
            f'vllm:lora_requests_info{{max_lora="{self.max_loras}",'
            f'running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"}} 1.0'
        )
        lines.append('vllm:cache_config_info{block_size="16",num_gpu_blocks="25000"} 1.0')
        return "\n".join(lines) + "\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """A scraper that gave up has closed its end: nothing to tell anybody."""


@dataclass
class MetricsTarget:
    """Serves `/<key>/metrics` for each state put in `states`."""

    states: dict[str, EngineState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        states, released = self.states, Event()
        self._released = released

        class Page(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                state = states.get(self.path.removeprefix("/").removesuffix("/metrics"))
                if state is not None and state.hang:
                    released.wait(30)
                body = b"" if state is None else state.exposition().encode()
                self.send_response(404 if state is None else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Scrapes are many; nothing is logged."""

        self._server = _Server(("127.0.0.1", 0), Page)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, key: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{key}/metrics"

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

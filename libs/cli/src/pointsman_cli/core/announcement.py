"""What `pointsman up` says when the stack is ready."""

import json

from pointsman_cli.core.sample_pool import MODEL


def curl_line(gateway: str) -> str:
    """A command that streams a chat answer."""
    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Where does this train go?"}],
    }
    url = f"{gateway}/v1/chat/completions"
    return f"curl -sN {url} -H 'content-type: application/json' -d '{json.dumps(body)}'"


def announcement(*, gateway: str, console: str, logs: str, run_dir: str, detached: bool) -> str:
    where = "" if run_dir == ".run" else f" --run-dir {run_dir}"
    stop = f"`pointsman down{where}` stops it." if detached else "Ctrl-C stops it."
    return f"""
Pointsman is ready. {stop}

  gateway   {gateway}   (OpenAI API)
  console   {console}
  logs      {logs}

Ask it:

  {curl_line(gateway)}
"""

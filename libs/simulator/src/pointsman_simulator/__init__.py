"""A model server without a model: continuous batching in simulated time."""

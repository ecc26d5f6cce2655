"""Up to which saturation a priority may go."""

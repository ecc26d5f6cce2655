"""The pointsman command."""

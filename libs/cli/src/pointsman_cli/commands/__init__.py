"""One file for each verb of the `pointsman` command."""

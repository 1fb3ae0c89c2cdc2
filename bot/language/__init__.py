"""The runbook language: YAML text to Runbook, all problems at once."""

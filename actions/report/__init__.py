"""Writing up an incident."""

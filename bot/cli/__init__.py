"""The command line. Each command parses, calls the service, and prints; nothing else."""

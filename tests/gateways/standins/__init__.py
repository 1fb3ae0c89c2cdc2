"""Stand-ins of the administration APIs of gateways that cannot run here.

They keep what they are given, check it, and answer as the real API does where it matters to a
client. They pass no traffic.
"""

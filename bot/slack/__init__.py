"""The Slack door: Bolt listeners that call the service, and the Chat port on the Web API."""

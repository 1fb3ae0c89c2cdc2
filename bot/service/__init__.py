"""The use cases. The only caller of ports; the doors and the driver call it."""

"""Keys: sealing content to recipients, and opening it. Code for stores and documents must not be here."""

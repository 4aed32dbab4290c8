"""Keys: sealing, signatures and chains. Code for stores and documents must not be here."""

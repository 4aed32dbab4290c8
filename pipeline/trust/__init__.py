"""Keys, signatures and chains: whom to believe, without a look into a store."""

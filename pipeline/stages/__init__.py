"""What every byte passes on its way into a store and back. What an archive is must not be known here."""
